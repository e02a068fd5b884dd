"""Holding a journey, taking people out and letting parked members go on, over REST."""

from typing import Any

import pytest
from httpx import AsyncClient

from core.ids import new_id
from tests.factories.marketing import Marketing, Walking, walk

MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "wait"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.fixture
async def cohort(marketing: Marketing) -> Walking:
    """Three at the node `mark`."""
    return await marketing.walking(walk(mark=MARK, wait=WAIT), await marketing.people(3))


async def called(client: AsyncClient, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = await client.post(f"/v1/journeys/journey/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("cohort")
async def test_pause_and_resume_mean_all_without_a_body_and_a_part_with_one(client: AsyncClient) -> None:
    def held(journey: dict[str, Any]) -> tuple[Any, ...]:
        return journey["status"], journey["entry_paused"], journey["sends_paused"]

    answer = await client.post("/v1/journeys/journey/pause")
    assert held(answer.json()) == ("paused", False, False)
    assert held((await client.post("/v1/journeys/journey/resume")).json()) == ("active", False, False)
    assert held(await called(client, "pause", {"what": "entry"})) == ("active", True, False)
    refused = await client.post("/v1/journeys/journey/enrollments", json={"person_id": str(new_id())})
    assert (refused.status_code, "entry is paused" in refused.json()["detail"]) == (409, True)
    assert held(await called(client, "pause", {"what": "sends"})) == ("active", True, True)
    assert held(await called(client, "resume", {"what": "entry"})) == ("active", False, True)
    assert held(await called(client, "resume", {"overdue": "exit"})) == ("active", False, False)
    assert (await client.post("/v1/journeys/journey/resume", json={"what": "sends"})).status_code == 409


async def test_who_is_late_is_shown_and_leaves_if_told_so(client: AsyncClient, cohort: Walking) -> None:
    await called(client, "pause", {})
    shown = (await client.get("/v1/journeys/journey/overdue")).json()
    [node] = shown["nodes"]
    assert (shown["members"], node["node"], node["late"]["hour"]) == (3, "mark", 3)
    assert node["due_from"] == (await cohort.row()).node_entered_at.isoformat().replace("+00:00", "Z")
    await called(client, "resume", {"overdue": "exit"})
    assert {row.reason for row in await cohort.rows()} == {"overdue"}
    assert (await client.get("/v1/journeys/journey/overdue")).json() == {"members": 0, "nodes": []}


async def test_eject_and_the_parked(client: AsyncClient, marketing: Marketing, cohort: Walking) -> None:
    ids = [row.id for row in await cohort.rows()]
    async with marketing.refusing(ids[:2]):
        await cohort.run("act", "mark")
    shown = (await client.get("/v1/journeys/journey/parked")).json()
    [group] = shown["groups"]
    assert (shown["members"], group["node"], group["error"]) == (2, "mark", "P0001: poisoned")
    assert group["enrollment_ids"] == [str(each) for each in ids[:2]]
    assert await called(client, "parked/skip", {"node": "wait"}) == {"members": 0}
    one = await client.post(f"/v1/enrollments/{ids[0]}/skip")
    assert (one.status_code, one.json()["status"]) == (200, "active")
    assert (await client.post(f"/v1/enrollments/{ids[0]}/skip")).status_code == 409
    answer = await client.post("/v1/journeys/journey/parked/skip")
    assert answer.json() == {"members": 1}
    await cohort.run("act", "mark", slots=[0, 1])
    assert [(row.node, row.status) for row in await cohort.rows()] == [("wait", "waiting")] * 3
    steps = (await client.get(f"/v1/enrollments/{ids[0]}")).json()["steps"]
    assert (steps[0]["outcome"], steps[0]["detail"]["skipped"]) == ("skipped", "by_hand")
    assert await called(client, "eject", {"reason": "wrong", "node": "mark"}) == {"ejected": 0}
    assert (await client.post("/v1/journeys/journey/eject")).json() == {"ejected": 3}
    assert {row.reason for row in await cohort.rows()} == {"ejected"}


@pytest.mark.usefixtures("cohort")
@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("pause", {"what": "waits"}, "what"),
        ("resume", {"overdue": "later"}, "overdue"),
        ("eject", {"reason": ""}, "reason"),
        ("eject", {"node": "nowhere"}, "node"),
        ("eject", {"node": "a\0b"}, "node"),
        ("parked/retry", {"node": "nowhere"}, "node"),
        ("parked/skip", {"error": ""}, "error"),
        ("parked/skip", {"why": "x"}, "why"),
    ],
)
async def test_what_is_wrong_is_named(client: AsyncClient, verb: str, body: dict[str, Any], field: str) -> None:
    answer = await client.post(f"/v1/journeys/journey/{verb}", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
