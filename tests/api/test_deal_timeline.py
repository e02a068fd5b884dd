"""A deal's timeline: what was changed, what is to be done, and what was said, merged."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import update

from core.database import Database
from models import Deal, Event
from services.crm import touching
from services.events.bus import EventRow

STAGES = [{"key": "new", "name": "New"}, {"key": "won", "name": "Won", "kind": "won"}]


@pytest.fixture
async def deal(client: AsyncClient) -> dict[str, Any]:
    pipeline = (await client.post("/v1/pipelines", json={"key": "sales", "name": "Sales", "stages": STAGES})).json()
    body = {"title": "Fleet", "pipeline_id": pipeline["id"], "amount": {"amount": "10.00", "currency": "EUR"}}
    answer = await client.post("/v1/deals", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json() | {"won": pipeline["stages"][1]["id"]}


async def entries(client: AsyncClient, deal_id: str) -> list[dict[str, Any]]:
    """All pages, two items a page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await client.get(f"/v1/deals/{deal_id}/timeline?limit=2{cursor}")
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return found
        cursor = f"&cursor={answer.json()['next_cursor']}"


async def test_it_has_changes_tasks_and_what_was_said(client: AsyncClient, deal: dict[str, Any]) -> None:
    await client.post("/v1/tasks", json={"title": "Call", "kind": "call", "deal_id": deal["id"]})
    note = {"channel": "note", "body": "They like red", "deal_id": deal["id"]}
    logged = await client.post("/v1/communications", json=note)
    assert logged.status_code == 201, logged.text
    assert logged.json()["deal_id"] == deal["id"]
    await client.post(f"/v1/deals/{deal['id']}/move", json={"stage_id": deal["won"]})
    told = await entries(client, deal["id"])
    assert [(entry["kind"], entry["type"]) for entry in told[1:3]] == [
        ("communication", "communication"),
        ("task", "task"),
    ]
    assert told[1]["body"] == "They like red"
    assert (told[2]["title"], told[2]["task_kind"], told[2]["status"]) == ("Call", "call", "open")
    assert {entry["kind"] for entry in (told[0], *told[3:])} == {"activity"}
    listed = (await client.get(f"/v1/communications?deal_id={deal['id']}")).json()["items"]
    assert [item["body"] for item in listed] == ["They like red"]


async def test_a_note_on_no_deal_is_refused(client: AsyncClient) -> None:
    note = {"channel": "note", "body": "They like red", "deal_id": "01900000-0000-7000-8000-000000000000"}
    answer = await client.post("/v1/communications", json=note)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["deal_id"]


async def test_what_is_said_or_to_be_done_keeps_a_deal_from_rotting(
    client: AsyncClient, deal: dict[str, Any], database: Database, tenant_id: UUID
) -> None:
    async def touched() -> bool:
        async with database.tenant(tenant_id) as session:
            row = await session.get_one(Deal, (tenant_id, UUID(deal["id"])))
            fresh = row.touched_at != row.created_at.replace(year=2020)
            old = update(Deal).where(Deal.tenant_id == tenant_id)
            await session.execute(old.values(touched_at=row.created_at.replace(year=2020)))
            return fresh

    await touched()
    assert not await touched()
    await client.post("/v1/tasks", json={"title": "Call", "deal_id": deal["id"]})
    assert await touched()
    await client.post("/v1/communications", json={"channel": "note", "body": "x", "deal_id": deal["id"]})
    async with database.tenant(tenant_id) as session:
        logged = Event.__table__.select().where(Event.tenant_id == tenant_id, Event.type == "communication.logged")
        row = (await session.execute(logged)).mappings().one()
        fields = {name: row[name] for name in EventRow.__slots__ if name in row}
        await touching.handle(session, [EventRow(**fields)])
    assert await touched()
