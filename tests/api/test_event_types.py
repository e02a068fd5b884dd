"""The types of events over the API: what is known of each, how often it is seen, and what its events are held to."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from httpx import AsyncClient
from sqlalchemy import text

from api import remembered
from api.app import create_app
from api.declared import TTL, DeclaredTypes
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from relay.type_counts import TypeCounter
from services.events import declared, event_types, tally
from tests.api.conftest import serving
from tests.api.websites import browser, website
from tests.services.identity.statements import WITHOUT_SCANS, analyzed, nodes, recorded

SCHEMA = {
    "type": "object",
    "required": ["score"],
    "properties": {"score": {"type": "integer", "minimum": 0}, "id": {"type": "string"}},
    "additionalProperties": False,
}


async def send(client: AsyncClient, event_type: str, properties: dict[str, Any]) -> Any:  # noqa: ANN401 - a response
    body = {"type": event_type, "person": {"email": "ann@acme.example"}, "properties": properties}
    return await client.post("/v1/events", json=body)


async def declare(client: AsyncClient, event_type: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.put(f"/v1/event-types/{event_type}", json={"schema": SCHEMA, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def shown(client: AsyncClient, event_type: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/event-types/{event_type}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@contextmanager
def asked_of_asyncpg() -> Generator[list[str]]:
    """Every statement of the hot connections while the block runs."""
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fetch", "fetchrow", "fetchval", "execute"):
            method = getattr(asyncpg.Connection, name)

            def note(connection: Any, query: str, *arguments: Any, _method: Any = method, **options: Any) -> Any:  # noqa: ANN401
                if "set_config" not in query:
                    sent.append(query)
                return _method(connection, query, *arguments, **options)

            patch.setattr(asyncpg.Connection, name, note)
        yield sent


async def count(database: Database) -> None:
    counter = TypeCounter(database)
    while await counter.once():
        pass


async def test_the_catalogue_and_the_tenants_own_types_are_listed_page_by_page(client: AsyncClient) -> None:
    await declare(client, "quiz.taken", description="Somebody answered the quiz")
    await declare(client, "zoo.visited")
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get("/v1/event-types", params={"limit": 50, **({"cursor": cursor} if cursor else {})})
        page = answer.json()
        found += page["items"]
        cursor = page["next_cursor"]
    names = [item["type"] for item in found]
    assert names == sorted(set(names))
    assert {"quiz.taken", "order.placed", "person.created", "zoo.visited"} <= set(names)
    assert len(names) == len(event_types.CATALOGUE) + 2
    own = (await client.get("/v1/event-types", params={"origin": "tenant"})).json()["items"]
    assert [item["type"] for item in own] == ["quiz.taken", "zoo.visited"]
    assert own[0]["description"] == "Somebody answered the quiz"
    placed = await shown(client, "order.placed")
    assert placed["written_by"] == ["platform", "clients"]
    assert placed["schema"]["required"] == ["total", "currency"]
    assert "items" in placed["platform_schema"]["required"]
    assert placed["declaration"] is None
    assert (await shown(client, "person.created"))["written_by"] == ["platform"]
    assert (await client.get("/v1/event-types/nobody.knows")).status_code == 404
    assert (await client.get("/v1/event-types/Not%00ours")).status_code == 422


async def test_what_was_seen_is_counted(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    for _ in range(3):
        assert (await send(client, "quiz.taken", {})).status_code == 202
    await count(database)
    quiz = await shown(client, "quiz.taken")
    assert (quiz["origin"], quiz["events_30_days"], quiz["subject_types"]) == ("tenant", 3, ["person"])
    first = quiz["first_seen_at"]
    await send(client, "quiz.taken", {})
    await count(database)
    await count(database)
    quiz = await shown(client, "quiz.taken")
    assert (quiz["events_30_days"], quiz["first_seen_at"]) == (4, first)
    assert quiz["last_seen_at"] > first
    seen = (await client.get("/v1/event-types", params={"seen": True})).json()["items"]
    assert {item["type"]: item["events_30_days"] for item in seen} == {"person.created": 1, "quiz.taken": 4}
    unseen = (await client.get("/v1/event-types", params={"seen": False, "limit": 200})).json()["items"]
    assert len(unseen) == len(event_types.CATALOGUE) - 1

    # days that are too old do not count, and go
    move = text("UPDATE event_type_day SET day = day - CAST(:days AS int) WHERE tenant_id = :tenant")
    async with database.tenant(tenant_id) as session:
        await session.execute(move, {"days": 31, "tenant": tenant_id})
    assert (await shown(client, "quiz.taken"))["events_30_days"] == 0
    async with database.system() as session:
        assert await tally.forget(session, 10) == 0
    async with database.tenant(tenant_id) as session:
        await session.execute(move, {"days": tally.KEPT // timedelta(days=1), "tenant": tenant_id})
    async with database.system() as session:
        assert await tally.forget(session, 10) == 2


async def test_events_are_held_to_what_is_declared(client: AsyncClient) -> None:
    assert (await send(client, "quiz.taken", {})).status_code == 202
    done = await declare(client, "quiz.taken")
    assert done["declaration"]["on_mismatch"] == "reject"

    refused = await send(client, "quiz.taken", {"score": "high", "extra": 1})
    assert refused.status_code == 422
    assert {(error["field"], error["reason"]) for error in refused.json()["errors"]} == {
        ("properties.score", "must be an integer"),
        ("properties.extra", "is not a property of this object"),
    }
    assert (await send(client, "quiz.taken", {"score": 3})).status_code == 202
    assert (await send(client, "other.thing", {})).status_code == 202
    batch = [
        {"type": "quiz.taken", "person": {"email": "ann@acme.example"}, "properties": properties}
        for properties in ({"score": 1}, {}, {"score": -1})
    ]
    answer = (await client.post("/v1/events/batch", json={"events": batch})).json()
    assert (answer["accepted"], [item["index"] for item in answer["rejected"]]) == (1, [1, 2])
    misfits = (await shown(client, "quiz.taken"))["declaration"]["misfits"]
    assert (misfits["rejected"], misfits["flagged"], misfits["last"][0]["field"]) == (3, 0, "properties.score")

    # declared anew, it counts anew; what does not fit is taken
    done = await declare(client, "quiz.taken", on_mismatch="flag")
    assert done["declaration"]["misfits"] == {"flagged": 0, "rejected": 0, "last_at": None, "last": []}
    assert (await send(client, "quiz.taken", {"score": "high"})).status_code == 202
    answer = (await client.post("/v1/events/batch", json={"events": batch})).json()
    assert answer["accepted"] == 3
    misfits = (await shown(client, "quiz.taken"))["declaration"]["misfits"]
    assert (misfits["rejected"], misfits["flagged"]) == (0, 3)

    assert (await client.delete("/v1/event-types/quiz.taken")).status_code == 204
    assert (await client.delete("/v1/event-types/quiz.taken")).status_code == 404
    assert (await send(client, "quiz.taken", {"score": "high"})).status_code == 202


async def test_websites_are_held_to_it_too(client: AsyncClient, anonymous: AsyncClient) -> None:
    await declare(client, "quiz.taken")
    site = await website(client, anonymous)
    quizzes = [{"type": "quiz.taken", "properties": properties} for properties in ({}, {"score": 1})]
    answer = (await site.send(browser(), *quizzes)).json()
    assert (answer["accepted"], [item["index"] for item in answer["rejected"]]) == (1, [0])
    assert (await shown(client, "quiz.taken"))["declaration"]["misfits"]["rejected"] == 1


@pytest.mark.parametrize(
    ("event_type", "schema", "field"),
    [
        ("person.created", SCHEMA, "type"),
        ("quiz.taken", {"type": "string"}, "schema"),
        ("quiz.taken", {"type": "object", "properties": {"a": {"pattern": "(?=x)"}}}, "schema.properties.a.pattern"),
        (
            "quiz.taken",
            {"type": "object", "properties": {"a": {"$ref": "https://evil.example"}}},
            "schema.properties.a.$ref",
        ),
    ],
)
async def test_a_declaration_that_makes_no_sense_is_refused(
    client: AsyncClient, event_type: str, schema: dict[str, Any], field: str
) -> None:
    answer = await client.put(f"/v1/event-types/{event_type}", json={"schema": schema})
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_another_process_learns_of_it_soon(
    client: AsyncClient, settings: Settings, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = create_app(settings)
    async with other.router.lifespan_context(other), serving(other, secret) as elsewhere:
        assert (await send(elsewhere, "quiz.taken", {})).status_code == 202
        await declare(client, "quiz.taken")
        assert (await send(elsewhere, "quiz.taken", {})).status_code == 202
        later = remembered.time.monotonic() + TTL
        with monkeypatch.context() as clock:
            clock.setattr(remembered.time, "monotonic", lambda: later)
            assert (await send(elsewhere, "quiz.taken", {})).status_code == 422


async def test_events_of_a_tenant_are_asked_for_nothing_more(client: AsyncClient) -> None:
    """What is declared costs the hot path a look into memory."""
    await send(client, "quiz.taken", {})
    with asked_of_asyncpg() as sent:
        await send(client, "quiz.taken", {})
    assert sent
    assert not [query for query in sent if "event_type" in query]


async def test_an_index_serves_each_question(database: Database, tenant_id: UUID, database_url: str) -> None:
    fill = text("""
        WITH known AS (
          INSERT INTO event_type (tenant_id, id, type) SELECT :tenant, tl_uuid7(), 'a.b' || n
          FROM generate_series(1, 3000) AS n
        )
        INSERT INTO event_type_day (tenant_id, type, day, events)
        SELECT :tenant, 'a.b' || n, current_date - CAST(d AS int), 1
        FROM generate_series(1, 3000) AS n, generate_series(1, 10) AS d
    """)
    async with database.tenant(tenant_id) as session:
        await session.execute(fill, {"tenant": tenant_id})
    await analyzed(database_url, "event_type", "event_type_day")
    async with database.tenant(tenant_id) as session:
        with recorded() as seen:
            await event_types.page(session, limit=51, after="a.b5")
            await event_types.page(session, limit=51, after="a.b5", origin="tenant", seen=True)
            await event_types.get(session, "order.placed")
        assert len(seen) == 5
        await session.execute(text(WITHOUT_SCANS))
        connection = await session.connection()
        for statement, parameters in seen:
            (plan,) = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)).scalar_one()
            by_key = {node["Index Name"] for node in nodes(plan["Plan"]) if "Index Cond" in node}
            assert by_key & {"event_type_tenant_id_type_idx", "event_type_day_pkey"}, statement


async def test_a_look_under_way_does_not_outlive_a_change(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = DeclaredTypes(database)
    load = declared.load
    looks: list[declared.Declarations] = []

    async def overtaken(connection: declared.Connection, tenant: UUID) -> declared.Declarations:
        looks.append(await load(connection, tenant))
        if len(looks) == 1:
            async with database.tenant(tenant) as session:
                await event_types.declare(
                    session, "quiz.taken", description=None, schema=SCHEMA, on_mismatch="reject", by=CLI
                )
            types.forget(tenant)
        return looks[-1]

    monkeypatch.setattr(declared, "load", overtaken)
    assert list(await types.of(tenant_id)) == ["quiz.taken"]
    assert types.known(tenant_id) is looks[1]
