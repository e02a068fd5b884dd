"""What the API says of what came of a journey."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import insert

from core.database import Database
from models import JourneyConversion
from tests.factories.marketing import EXIT

DEFINITION: dict[str, Any] = {
    "entry": {"api": True},
    "start": "split",
    "nodes": {
        "split": {
            "type": "split",
            "arms": [
                {"key": "nap", "share": 50, "next": "nap"},
                {"key": "out", "share": 50, "next": "done", "holdout": True},
            ],
        },
        "nap": {"type": "wait", "for": "P1D", "next": "done"},
        "done": EXIT,
    },
    "goal": {"event": "order.placed"},
}


async def test_results_of_a_journey(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    draft = await client.post("/v1/journeys", json={"key": "test", "name": "Test", "definition": DEFINITION})
    assert draft.status_code == 201, draft.text
    empty = (await client.get("/v1/journeys/test/results")).json()
    assert (empty["versions"], empty["goal_within"], empty["total"]["entered"]) == ([], None, 0)
    version = (await client.post("/v1/journeys/test/publish", json={})).json()
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    done = await client.post("/v1/journeys/test/enrollments", json={"person_id": person})
    values = {"tenant_id": tenant_id, "enrollment_id": UUID(done.json()["enrollment_ids"][0])}
    async with database.tenant(tenant_id) as session:
        await session.execute(insert(JourneyConversion).values(values))
    answer = await client.get("/v1/journeys/test/results")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["currency"], found["confidence"], found["goal_within"]) == ("EUR", 0.95, "P90D")
    assert "Newcombe" in found["method"]
    [of_version] = found["versions"]
    assert (of_version["version_id"], of_version["number"]) == (version["id"], 1)
    assert (of_version["entered"], of_version["converted"], of_version["rate"]) == (1, 1, 1.0)
    assert of_version["revenue"] == {"amount": "0.00", "currency": "EUR"}
    assert [(node["node"], node["type"], node["entered"]) for node in of_version["nodes"]] == [
        ("done", "exit", 0),
        ("nap", "wait", 0),
        ("split", "split", 1),
    ]
    nap, out = of_version["nodes"][2]["arms"]
    assert (nap["arm"], nap["share"], nap["holdout"], nap["people"]) == ("nap", 50, False, 0)
    assert nap["lift"] == {"difference": 0.0, "low": -1.0, "high": 1.0, "p": 1.0}
    assert (out["holdout"], out["lift"], out["rate"], out["interval"]) == (True, None, None, [0.0, 1.0])


async def test_results_of_no_journey_are_not_found(client: AsyncClient) -> None:
    assert (await client.get("/v1/journeys/none/results")).status_code == 404


async def test_a_split_that_makes_no_whole_is_refused_by_its_place(client: AsyncClient) -> None:
    arms = [{"key": "a", "share": 50, "next": "done"}, {"key": "b", "share": 60, "next": "done"}]
    definition = DEFINITION | {"nodes": {"split": {"type": "split", "arms": arms}, "done": EXIT}}
    answer = await client.post("/v1/journeys", json={"key": "bad", "name": "Bad", "definition": definition})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "definition.nodes.split", "reason": "the shares of the arms add up to 110, not to 100"}
    ]
