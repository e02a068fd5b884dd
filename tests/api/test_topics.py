from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from core.actor import CLI
from core.database import Database
from models import Activity
from services.identity import topics
from tests.factories.marketing import Marketing

NEWS: dict[str, Any] = {"key": "news", "name": "News", "wording": "I want news by mail.", "double_opt_in": True}


async def _defined(client: AsyncClient, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    answer = await client.post("/v1/topics", json=NEWS | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_topic_is_defined_changed_archived_and_taken_back(client: AsyncClient) -> None:
    topic = await _defined(client)
    assert topic["channels"] == ["email"]
    assert (topic["public"], topic["archived_at"]) == (True, None)
    path = f"/v1/topics/{topic['id']}"
    change = {"name": "Weekly news", "wording": None, "description": "On Mondays", "channels": ["email", "sms"]}
    changed = (await client.patch(path, json=change)).json()
    assert {name: changed[name] for name in change} == change
    assert (await client.patch(path, json={"name": None})).json()["name"] == "Weekly news"
    assert (await client.patch(path, json={"archived": True})).json()["archived_at"] is not None
    assert (await client.patch(path, json={"archived": False})).json()["archived_at"] is None
    assert (await client.get(path)).json()["double_opt_in"] is True


async def test_topics_are_listed_newest_first_a_page_at_a_time(client: AsyncClient) -> None:
    ids = [(await _defined(client, key=f"t{number}"))["id"] for number in range(3)]
    first = (await client.get("/v1/topics", params={"limit": 2})).json()
    second = (await client.get("/v1/topics", params={"cursor": first["next_cursor"]})).json()
    assert [topic["id"] for topic in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


async def test_a_topic_is_deleted_while_nobody_chose_it_and_archived_after(client: AsyncClient) -> None:
    unused, used = await _defined(client, key="unused"), await _defined(client, key="used")
    chosen = {"email": "ann@shop.example", "consent": [{"channel": "email", "topic": "used", "status": "opted_out"}]}
    assert (await client.post("/v1/people", json=chosen)).status_code == 201
    for topic in (unused, used):
        assert (await client.delete(f"/v1/topics/{topic['id']}")).status_code == 204
    assert (await client.get(f"/v1/topics/{unused['id']}")).status_code == 404
    assert (await client.get(f"/v1/topics/{used['id']}")).json()["archived_at"] is not None
    again = await client.post("/v1/topics", json=NEWS | {"key": "used"})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (409, "key")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": "all"}, "key"),
        ({"key": "A b"}, "key"),
        ({"name": " "}, "name"),
        ({"channels": []}, "channels"),
        ({"channels": ["fax"]}, "channels.0"),
        ({"channels": ["sms", "sms"]}, "channels"),
        ({"wording": "x" * 2_001}, "wording"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_is_no_topic_is_refused_by_field(client: AsyncClient, fields: dict[str, Any], field: str) -> None:
    answer = await client.post("/v1/topics", json=NEWS | fields)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


async def test_another_tenants_topic_is_not_there(client: AsyncClient, other_tenant: Marketing) -> None:
    async with other_tenant.session() as session:
        theirs = await topics.create(session, topics.NewTopic(key="news", name="News"), by=CLI)
    assert (await client.get("/v1/topics")).json()["items"] == []
    for method in ("GET", "DELETE"):
        assert (await client.request(method, f"/v1/topics/{theirs.id}")).status_code == 404
    assert (await client.patch(f"/v1/topics/{theirs.id}", json={"name": "Mine"})).status_code == 404
    await _defined(client, key="news")


async def test_every_change_of_a_topic_is_logged_once(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    topic = await _defined(client)
    for _ in range(2):
        await client.patch(f"/v1/topics/{topic['id']}", json={"public": False})
    await client.delete(f"/v1/topics/{topic['id']}")
    async with database.tenant(tenant_id) as session:
        logged = await session.execute(
            select(Activity.type, Activity.changes)
            .where(Activity.tenant_id == tenant_id, Activity.subject_type == "topic")
            .order_by(Activity.id)
        )
        found = [(kind, changes) for kind, changes in logged]
    assert [kind for kind, _ in found] == ["topic.created", "topic.updated", "topic.deleted"]
    assert found[1][1] == {"public": [True, False]}
