"""What is asked for most: how often it goes to Postgres, and that it says the same as the other ways to ask."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import insert

from api.app import create_app
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from models import PersonAlias
from services.tenancy import tenants
from tests.api.conftest import serving
from tests.factories.teammates import add_user, token_of
from tests.services.identity.histories import add_enrollments, add_events, add_messages

SYNC, QUERY = b"S", b"Q"
"""Messages of the frontend that Postgres answers with ReadyForQuery: each is a round trip that is waited for."""

ASKS_FOR_TLS = 8
"""Length of the message."""


@dataclass(slots=True)
class Tap:
    """Counts the round trips of all connections that go through it."""

    url: str
    count: int = 0


@pytest.fixture
async def tap(database_url: str) -> AsyncGenerator[Tap]:
    """A way to the test's database that counts."""
    parts = urlsplit(database_url)
    running: set[asyncio.Task[None]] = set()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = ASKS_FOR_TLS
        while length == ASKS_FOR_TLS:  # the start-up message has no type, nor has what asks for TLS before it
            length = int.from_bytes(size := await reader.readexactly(4))
            writer.write(size + await reader.readexactly(length - 4))
        while kind := await reader.read(1):
            tap.count += kind in {SYNC, QUERY}
            length = int.from_bytes(size := await reader.readexactly(4))
            writer.write(kind + size + await reader.readexactly(length - 4))
        writer.close()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(parts.hostname, parts.port)
        for task in (asyncio.create_task(count(reader, there[1])), asyncio.create_task(copy(there[0], writer))):
            running.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tap = Tap(parts._replace(netloc=f"{parts.username}:{parts.password or ''}@127.0.0.1:{port}").geturl())
    yield tap
    server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def rich_person(client: AsyncClient, database: Database, tenant_id: UUID, **more: object) -> dict[str, Any]:
    """Somebody of whom everything is known."""
    body = {
        "email": f"{uuid4().hex}@shop.example",
        "phone": f"+4930{uuid4().int % 10**7:07}",
        "external_id": uuid4().hex,
        "first_name": "Änn",
        "time_zone": "Europe/Berlin",
        "attributes": {"plan": "pro", "n": 1.5, "tags": ["a", {"b": None}]},
        "is_lead": True,
        "consent": [
            {"channel": "email", "topic": "news", "status": "opted_in", "source": "call"},
            {"channel": "sms", "topic": "news", "status": "opted_out"},
        ],
        **more,
    }
    made = await client.post("/v1/people", json=body)
    assert made.status_code == 201, made.text
    person: dict[str, Any] = made.json()
    async with database.tenant(tenant_id) as session:
        await add_events(session, UUID(person["id"]), ["page.viewed"] * 30)
        await add_enrollments(session, UUID(person["id"]), ["welcome"])
        await add_messages(session, UUID(person["id"]), 3)
    return person


@pytest.mark.parametrize("credential", ["key", "session"])
async def test_a_profile_and_a_lookup_take_few_round_trips(
    tap: Tap,
    settings: Settings,
    client: AsyncClient,
    secret: str,
    database: Database,
    tenant_id: UUID,
    credential: str,
) -> None:
    person = await rich_person(client, database, tenant_id)
    if credential == "session":
        secret = await token_of(database, await add_user(database, tenant_id))
    async with database.system() as session:
        other = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    elsewhere = await token_of(database, await add_user(database, other.id))
    app = create_app(settings.model_copy(update={"database_url": tap.url}))
    async with app.router.lifespan_context(app), serving(app, secret) as ours, serving(app, elsewhere) as theirs:
        for path in (f"/v1/people/{person['id']}/profile", f"/v1/people?email={person['email']}"):
            for _ in range(2):
                assert (await theirs.get(path)).status_code in {200, 404}
                assert (await ours.get(path)).status_code == 200
            tap.count = 0
            assert (await ours.get(path)).status_code == 200
            assert tap.count == 1
            await theirs.get(path)
            tap.count = 0
            assert (await ours.get(path)).status_code == 200
            assert tap.count == 2, "the connection served another tenant before, so it is told ours first"


async def test_a_lookup_by_one_identifier_says_what_a_list_says(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await rich_person(client, database, tenant_id, anonymous_id="browser-1")
    kinds = {name: person[name] for name in ("email", "phone", "external_id")} | {"anonymous_id": "browser-1"}
    alone = await client.get(f"/v1/people/{person['id']}")
    for kind, value in kinds.items():
        found = await client.get("/v1/people", params={kind: value})
        listed = await client.get("/v1/people", params={kind: value, "stage": person["lifecycle_stage"]})
        assert found.json() == listed.json()
        assert found.json()["items"] == [alone.json()]
        assert found.headers["content-type"] == alone.headers["content-type"]
    nobody = await client.get("/v1/people", params={"email": "nobody@shop.example"})
    assert nobody.json() == {"items": [], "next_cursor": None}


async def test_the_identity_in_a_profile_is_the_person(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await rich_person(client, database, tenant_id)
    alone = (await client.get(f"/v1/people/{person['id']}")).json()
    profile = (await client.get(f"/v1/people/{person['id']}/profile")).json()
    assert profile["identity"] == alone
    timeline = (await client.get(f"/v1/people/{person['id']}/timeline", params={"limit": 20})).json()
    assert profile["activities"] == timeline["items"]


async def test_the_id_of_somebody_merged_away_shows_the_winners_profile(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    person = await rich_person(client, database, tenant_id)
    loser = new_id()
    async with database.tenant(tenant_id) as session:
        await session.execute(
            insert(PersonAlias).values(
                tenant_id=tenant_id,
                id=loser,
                person_id=UUID(person["id"]),
                merge_id=new_id(),
                created_at=datetime.now(UTC),
            )
        )
    by_alias = await client.get(f"/v1/people/{loser}/profile")
    assert by_alias.json() == (await client.get(f"/v1/people/{person['id']}/profile")).json()


async def test_nobodys_and_another_tenants_profile_are_not_found(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    person = await rich_person(client, database, tenant_id)
    async with database.system() as session:
        other = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    async with serving(app, await token_of(database, await add_user(database, other.id))) as theirs:
        assert (await theirs.get(f"/v1/people/{person['id']}/profile")).status_code == 404
        assert (await theirs.get("/v1/people", params={"email": person["email"]})).json()["items"] == []
    assert (await client.get(f"/v1/people/{uuid4()}/profile")).status_code == 404
