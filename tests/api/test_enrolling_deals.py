"""Deals are let into a journey of theirs by hand; who is not of its subject is refused."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient

from core.ids import new_id
from tests.factories.marketing import Marketing, walk
from tests.factories.selling import Selling

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
PATH = "/v1/journeys/deals/enrollments"


@pytest.fixture
def selling(marketing: Marketing) -> Selling:
    """The tenant's sales."""
    return Selling(marketing.database, marketing.tenant_id)


async def publish(client: AsyncClient, key: str, **more: object) -> None:
    definition = {**walk(wait=WAIT), "entry": {"api": True, "again": {"mode": "when_not_active"}}, **more}
    made = await client.post("/v1/journeys", json={"key": key, "name": key, "definition": definition})
    assert made.status_code == 201, made.text
    assert (await client.post(f"/v1/journeys/{key}/publish")).status_code == 200


async def test_deals_enter_by_hand_are_found_and_leave(client: AsyncClient, selling: Selling) -> None:
    await publish(client, "deals", subject="deal")
    stage = (await selling.pipeline())["new"]
    person = await selling.person()
    deals = [await selling.deal(stage, person_id=person), await selling.deal(stage)]
    answer = await client.post(PATH, json={"deal_ids": [str(each) for each in (*deals, deals[0], new_id())]})
    assert answer.status_code == 202, answer.text
    done = answer.json()
    assert (done["enrolled"], done["skipped"]) == (2, {"repeated": 1, "not_found": 1})
    again = (await client.post(PATH, json={"deal_ids": [str(deals[0])]})).json()
    assert again == {"enrolled": 0, "skipped": {"already_active": 1}, "enrollment_ids": []}

    shown = (await client.get(PATH)).json()["items"]
    assert [(each["id"], each["deal_id"], each["person_id"]) for each in shown] == [
        (done["enrollment_ids"][0], str(deals[0]), str(person)),
        (done["enrollment_ids"][1], str(deals[1]), None),
    ]
    assert (await client.get(PATH, params={"deal_id": str(deals[1])})).json()["items"] == [shown[1]]
    assert (await client.get(PATH, params={"deal_id": str(deals[1]), "status": "exited"})).json()["items"] == []
    assert (await client.get(PATH, params={"deal_id": str(person)})).json()["items"] == []
    assert (await client.get(PATH, params={"deal_id": "x"})).json()["errors"][0]["field"] == "deal_id"

    passage = done["enrollment_ids"][0]
    assert (await client.post(f"/v1/enrollments/{passage}/exit", json={"reason": "asked"})).json()["deal_id"] == str(
        deals[0]
    )
    assert (await client.post(PATH, json={"deal_ids": [str(deals[0])]})).json()["enrolled"] == 1


async def test_whoever_is_not_of_the_journey_s_subject_is_refused(
    client: AsyncClient, marketing: Marketing, selling: Selling
) -> None:
    await publish(client, "deals", subject="deal")
    await publish(client, "people")
    made = await client.post("/v1/segments", json={"key": "all", "name": "All", "kind": "static"})
    assert made.status_code == 201
    person, deal = str(await marketing.person()), str(await selling.deal((await selling.pipeline())["new"]))

    async def refused(journey: str, body: dict[str, Any]) -> dict[str, str]:
        answer = await client.post(f"/v1/journeys/{journey}/enrollments", json=body)
        assert answer.status_code == 422, answer.text
        return {error["field"]: error["reason"] for error in answer.json()["errors"]}

    of_people = "is for journeys of people: deals walk this one, and deal_ids names them"
    for name, value in {"person_id": person, "person_ids": [person], "segment_id": "all"}.items():
        assert await refused("deals", {name: value}) == {name: of_people}
    of_deals = "is for journeys of deals: people walk this one"
    assert await refused("people", {"deal_ids": [deal]}) == {"deal_ids": of_deals}
    assert list(await refused("deals", {"deal_ids": [deal], "person_id": person})) == ["person_id"]
    assert list(await refused("deals", {"deal_ids": []})) == ["deal_ids"]


async def test_a_stage_s_rule_takes_deals_in_by_their_stage_alone(client: AsyncClient) -> None:
    rule = {"key": "call", "on": "enter", "then": [{"type": "create_task", "title": "Call"}]}
    stages = [{"key": "new", "name": "New", "automation": [rule]}, {"key": "won", "name": "Won", "kind": "won"}]
    made = (await client.post("/v1/pipelines", json={"key": "auto", "name": "Auto", "stages": stages})).json()
    journey = UUID(made["stages"][0]["automation"][0]["journey_id"])
    answer = await client.post(f"/v1/journeys/{journey}/enrollments", json={"deal_ids": [str(new_id())]})
    assert answer.status_code == 409
    assert "by their stage" in answer.json()["detail"]
