"""Tasks: made, found by urgency, closed; and what their owners are told."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select

from core.actor import CLI
from core.database import Database
from models import Activity, Event
from services.crm import tasks
from services.crm.tasks import NewTask
from tests.api.conftest import serving
from tests.factories.teammates import add_user, token_of

NOW = datetime.now(UTC).replace(microsecond=0)


async def made(client: AsyncClient, title: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/tasks", json={"title": title, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def titles(client: AsyncClient, query: str = "") -> list[str]:
    """All pages, one item a page."""
    found: list[str] = []
    cursor = ""
    while True:
        answer = await client.get(f"/v1/tasks?limit=1{query}{cursor}")
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [item["title"] for item in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def test_open_tasks_come_by_urgency_and_undated_ones_last(client: AsyncClient) -> None:
    for title, days in (("later", 3), ("late", -1), ("soon", 1), ("some day", None), ("one day", None)):
        due = None if days is None else (NOW + timedelta(days=days)).isoformat()
        await made(client, title, due_at=due)
    assert await titles(client) == ["late", "soon", "later", "some day", "one day"]
    until = (NOW + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await titles(client, f"&due_before={until}") == ["late", "soon"]
    assert await titles(client, "&status=any") == ["one day", "some day", "soon", "late", "later"]


async def test_a_task_is_done_opened_again_and_cancelled(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    task = await made(client, "Call Ann")
    done = (await client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"})).json()
    assert done["status"] == "done"
    assert done["closed_at"] is not None
    assert await titles(client) == []
    assert await titles(client, "&status=done") == ["Call Ann"]
    opened = (await client.patch(f"/v1/tasks/{task['id']}", json={"status": "open"})).json()
    assert (opened["status"], opened["closed_at"]) == ("open", None)
    assert (await client.patch(f"/v1/tasks/{task['id']}", json={"status": "cancelled"})).json()["status"] == "cancelled"
    assert (await client.delete(f"/v1/tasks/{task['id']}")).status_code == 204
    assert (await client.get(f"/v1/tasks/{task['id']}")).status_code == 404
    async with database.tenant(tenant_id) as session:
        kinds = await session.scalars(
            select(Event.type)
            .where(Event.tenant_id == tenant_id, Event.subject_type == "task")
            .order_by(Event.position)
        )
        assert list(kinds) == ["task.created", "task.completed", "task.updated", "task.updated", "task.deleted"]


async def test_texts_stand_in_the_row_alone(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    task = await made(client, "Xyzzy", note="Xyzzy")
    await client.patch(f"/v1/tasks/{task['id']}", json={"title": "Xyzzy again", "note": None})
    async with database.tenant(tenant_id) as session:
        logged = await session.scalars(select(Activity.changes).where(Activity.tenant_id == tenant_id))
        told = await session.scalars(select(Event.properties).where(Event.tenant_id == tenant_id))
        assert "Xyzzy" not in str([*logged, *told])


async def test_a_task_is_about_people_and_things_that_are_there(client: AsyncClient) -> None:
    for field in ("owner_id", "person_id", "organization_id", "deal_id"):
        answer = await client.post("/v1/tasks", json={"title": "Call", field: str(uuid4())})
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    for body in ({"title": ""}, {"title": " "}, {"title": "x", "kind": "fax"}, {"title": "x", "due_at": "soon"}):
        assert (await client.post("/v1/tasks", json=body)).status_code == 422
    task = await made(client, "Call")
    for body in ({"title": None}, {"status": "late"}, {"kind": None}, {"owner_id": str(uuid4())}):
        assert (await client.patch(f"/v1/tasks/{task['id']}", json=body)).status_code == 422
    assert (await client.get("/v1/tasks?cursor=x")).status_code == 422


async def test_tasks_of_somebody_merged_are_found_by_either(client: AsyncClient) -> None:
    ann, old = [
        (await client.post("/v1/people", json={"email": f"{name}@shop.example"})).json()["id"]
        for name in ("ann", "old")
    ]
    await made(client, "Call", person_id=old)
    await client.post("/v1/people/merge", json={"winner_id": ann, "loser_id": old})
    assert await titles(client, f"&person_id={ann}") == ["Call"]
    assert await titles(client, f"&person_id={old}&status=any") == ["Call"]
    assert (await made(client, "Again", person_id=old))["person_id"] == ann


@pytest.fixture
async def mate(database: Database, tenant_id: UUID) -> tuple[UUID, str]:
    user = await add_user(database, tenant_id)
    return user.id, await token_of(database, user)


async def test_owners_are_told_of_tasks_that_others_give_them(
    app: FastAPI, client: AsyncClient, mate: tuple[UUID, str]
) -> None:
    user_id, token = mate
    given = await made(client, "Call Ann", owner_id=str(user_id))
    other = await made(client, "Write")
    await client.patch(f"/v1/tasks/{other['id']}", json={"owner_id": str(user_id)})
    async with serving(app, token) as own:
        await made(own, "Mine", owner_id=str(user_id))
        told = (await own.get("/v1/me/notifications")).json()
        assert [item["title"] for item in told["items"]] == ["Task: Write", "Task: Call Ann"]
        assert told["unread"] == 2
        one = told["items"][1]["id"]
        assert (await own.post("/v1/me/notifications/read", json={"ids": [one, str(uuid4())]})).json() == {"read": 1}
        unread = (await own.get("/v1/me/notifications?unread=true&limit=1")).json()
        assert [item["title"] for item in unread["items"]] == ["Task: Write"]
        assert (await own.post("/v1/me/notifications/read", json={"all": True})).json() == {"read": 1}
        assert (await own.get("/v1/me/notifications")).json()["unread"] == 0
        assert (await own.post("/v1/me/notifications/read", json={})).status_code == 422
    assert await titles(client, f"&owner_id={user_id}") == ["Call Ann", "Write", "Mine"]
    assert (await client.get("/v1/me/notifications")).status_code == 403
    assert (await client.get(f"/v1/tasks/{given['id']}")).json()["owner_id"] == str(user_id)


async def test_tasks_made_together_are_told_and_logged_each_as_it_is(
    database: Database, tenant_id: UUID, mate: tuple[UUID, str]
) -> None:
    due = datetime(2026, 3, 1, tzinfo=UTC)
    wanted = [
        NewTask(title="A", kind="call", owner_id=mate[0]),
        NewTask(title="B", kind="call", due_at=due),
        NewTask(title="C"),
        NewTask(title="D", kind="call", owner_id=mate[0]),
    ]
    async with database.tenant(tenant_id) as session:
        made = await tasks.create_many(session, wanted, by=CLI)
        told = await session.execute(
            select(Event.subject_id, Event.properties).where(Event.tenant_id == tenant_id, Event.type == "task.created")
        )
        logged = await session.execute(
            select(Activity.subject_id, Activity.changes).where(
                Activity.tenant_id == tenant_id, Activity.type == "task.created"
            )
        )
        changes = {row.subject_id: row.changes for row in logged}
        properties = {row.subject_id: row.properties for row in told}
    of_mate = {"kind": "call", "owner_id": str(mate[0])}
    each = [of_mate, {"kind": "call", "due_at": due.isoformat()}, {"kind": "todo"}, of_mate]
    assert [properties[task_id] for task_id in made] == [
        {"task_id": str(task_id)} | own for task_id, own in zip(made, each, strict=True)
    ]
    assert [changes[task_id] for task_id in made] == [
        {name: [None, value] for name, value in own.items()} for own in each
    ]


async def test_what_may_be_repeated_is_made_once(database: Database, tenant_id: UUID, mate: tuple[UUID, str]) -> None:
    wanted = [NewTask(title=f"Task {n}", owner_id=mate[0], source_key=f"journey:{n}") for n in range(3)]
    async with database.tenant(tenant_id) as session:
        assert len(await tasks.create_many(session, wanted[:2], by=CLI)) == 2
    async with database.tenant(tenant_id) as session:
        assert len(await tasks.create_many(session, wanted, by=CLI)) == 1
        told = await session.scalars(
            select(Event.id).where(Event.tenant_id == tenant_id, Event.type == "notification.created")
        )
        assert len(list(told)) == 3
