"""One passage over REST: what it shows, and taking it in hand."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from core.actor import CLI
from core.ids import new_id
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.factories.marketing import Marketing, Walking, walk

MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "wait"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}


@pytest.fixture
async def cohort(marketing: Marketing) -> Walking:
    """Three at the node `mark`, behind which they wait."""
    return await marketing.walking(walk(mark=MARK, wait=WAIT), await marketing.people(3), entry={"plan": "pro"})


@pytest.fixture
async def stranger(app: FastAPI, other_tenant: Marketing) -> AsyncGenerator[AsyncClient]:
    """A client with another tenant's key."""
    async with other_tenant.session() as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with serving(app, secret) as client:
        yield client


async def shown(client: AsyncClient, enrollment_id: UUID) -> dict[str, Any]:
    answer = await client.get(f"/v1/enrollments/{enrollment_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_passage_is_shown_with_its_steps(client: AsyncClient, cohort: Walking) -> None:
    await cohort.run("act", "mark", slots=[0])
    row = await cohort.row(0)
    passage = await shown(client, row.id)
    assert (passage["id"], passage["person_id"], passage["subject_id"]) == (
        str(row.id),
        str(row.person_id),
        str(row.person_id),
    )
    assert (passage["status"], passage["node"], passage["entry"]) == ("waiting", "wait", {"plan": "pro"})
    steps = [(step["node"], step["outcome"], step["left_at"] is None) for step in passage["steps"]]
    assert steps == [("mark", "done", False), ("wait", None, True)]
    assert passage["steps"][0]["entered_at"] == passage["entered_at"]
    assert passage["steps"][0]["left_at"] == passage["steps"][1]["entered_at"] == passage["node_entered_at"]
    await cohort.run("leave_wait", "wait", slots=[0])
    passage = await shown(client, row.id)
    assert (passage["status"], passage["reason"]) == ("completed", "finished")
    assert [(step["node"], step["outcome"]) for step in passage["steps"]] == [
        ("mark", "done"),
        ("wait", "elapsed"),
        ("done", "finished"),
    ]


async def test_exit_takes_out_once(client: AsyncClient, marketing: Marketing, cohort: Walking) -> None:
    row = await cohort.row(1)
    first = await client.post(f"/v1/enrollments/{row.id}/exit", json={"reason": "asked for it"})
    assert first.status_code == 200
    assert (first.json()["status"], first.json()["reason"]) == ("exited", "asked for it")
    again = await client.post(f"/v1/enrollments/{row.id}/exit", json={"reason": "another"})
    assert again.status_code == 200
    assert again.json() == first.json()
    assert await marketing.owed(cohort) == [("leave", [1])]


async def test_exit_needs_no_body(client: AsyncClient, cohort: Walking) -> None:
    answer = await client.post(f"/v1/enrollments/{(await cohort.row()).id}/exit")
    assert (answer.status_code, answer.json()["reason"]) == (200, "removed")


@pytest.mark.parametrize(
    "body", [{"reason": ""}, {"reason": "x" * 201}, {"why": "x"}, {"reason": "a\0b"}, {"reason": 1}]
)
async def test_a_wrong_reason_is_refused(client: AsyncClient, cohort: Walking, body: dict[str, Any]) -> None:
    row = await cohort.row()
    answer = await client.post(f"/v1/enrollments/{row.id}/exit", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == list(body)
    assert (await cohort.row()).ended_at is None


async def test_pause_and_resume_and_again(client: AsyncClient, marketing: Marketing, cohort: Walking) -> None:
    row = await cohort.row(2)
    for verb, paused in (("pause", True), ("pause", True), ("resume", False), ("resume", False)):
        answer = await client.post(f"/v1/enrollments/{row.id}/{verb}")
        assert (answer.status_code, answer.json()["paused"]) == (200, paused)
    assert await marketing.owed(cohort) == [("hold", [2]), ("release", [2])]


async def test_an_ended_passage_is_neither_paused_nor_resumed(client: AsyncClient, cohort: Walking) -> None:
    row = await cohort.row()
    await client.post(f"/v1/enrollments/{row.id}/exit")
    for verb in ("pause", "resume", "retry"):
        assert (await client.post(f"/v1/enrollments/{row.id}/{verb}")).status_code == 409


async def test_retry_is_for_those_who_are_parked(client: AsyncClient, marketing: Marketing, cohort: Walking) -> None:
    row = await cohort.row(1)
    assert (await client.post(f"/v1/enrollments/{row.id}/retry")).status_code == 409
    async with marketing.refusing([row.id]):
        await cohort.run("act", "mark")
    parked = await shown(client, row.id)
    assert (parked["status"], parked["problem"]["error"]) == ("failed", "P0001: poisoned")
    answer = await client.post(f"/v1/enrollments/{row.id}/retry")
    assert (answer.status_code, answer.json()["status"], answer.json()["problem"]) == (200, "active", None)
    assert await marketing.owed(cohort) == [("retry", [1])]
    assert (await client.post(f"/v1/enrollments/{row.id}/retry")).status_code == 409


@pytest.mark.parametrize(
    ("method", "verb"), [("GET", ""), ("POST", "/exit"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/retry")]
)
async def test_what_is_not_there_is_404(
    client: AsyncClient, stranger: AsyncClient, cohort: Walking, method: str, verb: str
) -> None:
    row = await cohort.row()
    for who, enrollment_id in ((client, new_id()), (stranger, row.id), (client, "x")):
        answer = await who.request(method, f"/v1/enrollments/{enrollment_id}{verb}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    untouched = await cohort.row()
    assert (untouched.ended_at, untouched.paused) == (None, False)
