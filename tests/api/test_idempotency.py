"""A POST sent again with its `Idempotency-Key` is done once and answered the same."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI, Response
from httpx import AsyncClient
from httpx import Response as Answer
from sqlalchemy import text

from api.app import create_app
from api.dependencies import DatabaseDep, PrincipalDep, SessionDep, requires
from api.fields import Strict
from api.routing import Router
from core.actor import CLI
from core.database import Database
from core.errors import ConflictError
from core.ids import new_id
from core.settings import Settings
from services.tenancy import api_keys, idempotency
from tests.api.conftest import serving

ADD = text("INSERT INTO person (tenant_id, id, first_name) VALUES (:tenant_id, :id, :name)")

router = Router(prefix="/notes")
gate = asyncio.Event()
entered = asyncio.Event()


class Note(Strict):
    name: str


@router.post("", status_code=201)
async def create(body: Note, session: SessionDep, response: Response, fail: int = 0) -> dict[str, str]:
    person_id = new_id()
    await session.execute(ADD, {"tenant_id": session.tenant_id, "id": person_id, "name": body.name})
    if fail == 409:
        raise ConflictError("refused after the work")
    if fail == 500:
        raise RuntimeError("crashed after the work")
    response.headers["Location"] = f"/v1/notes/{person_id}"
    return {"id": str(person_id)}


@router.post("/slow", status_code=202)
async def slow(session: SessionDep) -> dict[str, str]:
    entered.set()
    await gate.wait()
    return {"tenant": str(session.tenant_id)}


@router.post("/apart", status_code=202)
async def apart(database: DatabaseDep, principal: PrincipalDep) -> dict[str, str]:
    async with database.hot(principal.tenant_id) as connection:
        return {"id": str(await connection.fetchval("SELECT gen_random_uuid()"))}


@router.post("/guarded", dependencies=[requires("people:write")])
async def guarded() -> None:
    return None


@pytest.fixture(scope="module")
async def notes_app(settings: Settings) -> AsyncGenerator[FastAPI]:
    app = create_app(settings)
    app.include_router(router, prefix="/v1")
    yield app
    await app.state.resources.close()


@pytest.fixture
async def notes(notes_app: FastAPI, secret: str) -> AsyncGenerator[AsyncClient]:
    async with serving(notes_app, secret) as client:
        yield client


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def people(admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID) -> int:
    count: int = await admin.fetchval("SELECT count(*) FROM person WHERE tenant_id = $1", tenant_id)
    return count


async def post(client: AsyncClient, path: str, key: str, name: str = "a") -> Answer:
    return await client.post(path, json={"name": name}, headers={"Idempotency-Key": key})


async def test_the_same_request_is_done_once(
    notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID
) -> None:
    first, second = [await post(notes, "/v1/notes", "k") for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first.headers["location"] == second.headers["location"]
    assert first.headers["content-type"] == second.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert await people(admin, tenant_id) == 1


async def test_without_a_key_or_with_another_the_request_is_done_again(
    notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID
) -> None:
    for _ in range(2):
        assert (await notes.post("/v1/notes", json={"name": "a"})).status_code == 201
    for key in ("one", "two"):
        assert (await post(notes, "/v1/notes", key)).status_code == 201
    assert await people(admin, tenant_id) == 4


async def test_a_key_does_not_serve_another_request(notes: AsyncClient) -> None:
    await post(notes, "/v1/notes", "k")
    others = [
        await post(notes, "/v1/notes", "k", "b"),
        await post(notes, "/v1/notes?fail=0", "k"),
        await post(notes, "/v1/notes/apart", "k"),
    ]
    for other in others:
        assert other.status_code == 422
        assert other.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_an_answer_is_not_given_to_another_api_key(
    notes: AsyncClient, notes_app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    await post(notes, "/v1/notes", "k")
    async with database.tenant(tenant_id) as session:
        _, other = await api_keys.create(session, "other", ["people:read"], by=CLI)
    async with serving(notes_app, other) as client:
        assert (await post(client, "/v1/notes", "k")).status_code == 422


@pytest.mark.parametrize("status", [409, 500])
async def test_what_was_refused_did_nothing_and_leaves_the_key_free(
    notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID, status: int
) -> None:
    assert (await post(notes, f"/v1/notes?fail={status}", "k")).status_code == status
    assert await people(admin, tenant_id) == 0
    assert (await post(notes, "/v1/notes", "k", "corrected")).status_code == 201
    assert await people(admin, tenant_id) == 1


async def test_the_work_and_its_kept_answer_are_one(
    notes: AsyncClient,
    admin: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "keep", fail)
        assert (await post(notes, "/v1/notes", "k")).status_code == 500
    assert await people(admin, tenant_id) == 0
    assert (await post(notes, "/v1/notes", "k")).status_code == 201


async def test_the_second_is_told_while_the_first_is_at_work(notes: AsyncClient) -> None:
    gate.clear()
    entered.clear()
    first = asyncio.create_task(post(notes, "/v1/notes/slow", "k"))
    await asyncio.wait_for(entered.wait(), 10)
    second = await post(notes, "/v1/notes/slow", "k")
    assert second.status_code == 409
    assert second.json()["errors"][0]["field"] == "Idempotency-Key"
    gate.set()
    answer = await first
    assert answer.status_code == 202
    third = await post(notes, "/v1/notes/slow", "k")
    assert third.content == answer.content
    assert third.headers["idempotent-replayed"] == "true"


async def test_twenty_at_once_do_it_once(
    notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID
) -> None:
    answers = await asyncio.gather(*(post(notes, "/v1/notes", "k") for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await people(admin, tenant_id) == 1


async def test_a_claim_ends_with_the_connection_that_made_it(
    database: Database, database_url: str, tenant_id: UUID, admin: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    holder = Database(database_url)
    async with holder.tenant(tenant_id) as session:
        assert await idempotency.claim(session, "k", b"hash") is None
        async with database.tenant(tenant_id) as other:
            with pytest.raises(ConflictError):
                await idempotency.claim(other, "k", b"hash")
        # What the server sees of a process that was killed: its connection is gone.
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
        async with database.tenant(tenant_id) as other:
            assert await idempotency.claim(other, "k", b"hash") is None
        await session.invalidate()
    await holder.close()


async def test_work_on_another_connection_is_answered_again_too(notes: AsyncClient) -> None:
    first, second = [await post(notes, "/v1/notes/apart", "k") for _ in range(2)]
    assert first.content == second.content


async def test_after_a_day_the_key_is_free_and_its_answer_purged(
    notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID, database: Database
) -> None:
    for key in ("old", "older", "new"):
        await post(notes, "/v1/notes", key)
    await admin.execute(
        "UPDATE idempotency_key SET created_at = now() - interval '24 hours' WHERE tenant_id = $1 AND key LIKE 'old%'",
        tenant_id,
    )
    again = await post(notes, "/v1/notes", "old", "another")
    assert again.status_code == 201
    assert (await post(notes, "/v1/notes", "old", "another")).content == again.content
    async with database.system() as session:
        assert await idempotency.purge(session) >= 1
    kept = await admin.fetch("SELECT key FROM idempotency_key WHERE tenant_id = $1 ORDER BY key", tenant_id)
    assert [row["key"] for row in kept] == ["new", "old"]


async def test_a_secret_is_not_kept(notes: AsyncClient, admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    body = {"name": "shop", "scopes": ["people:read"]}
    headers = {"Idempotency-Key": "make-key"}
    first = await notes.post("/v1/api-keys", json=body, headers=headers)
    assert first.status_code == 201
    second = await notes.post("/v1/api-keys", json=body, headers=headers)
    assert second.status_code == 409
    assert second.headers["idempotent-replayed"] == "true"
    assert len((await notes.get("/v1/api-keys")).json()["items"]) == 2
    bodies = await admin.fetch("SELECT body FROM idempotency_key")
    assert all(first.json()["secret"].encode() not in row["body"] for row in bodies)


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "white space", "\u00e9"])
async def test_a_wrong_key_is_refused(notes: AsyncClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    refused = await notes.post("/v1/notes", json={"name": "a"}, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_who_may_not_ask_gets_no_answer_kept(
    notes: AsyncClient, notes_app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    async with serving(notes_app) as nobody:
        assert (await post(nobody, "/v1/notes", "k")).status_code == 401
    async with database.tenant(tenant_id) as session:
        _, limited = await api_keys.create(session, "limited", ["people:read"], by=CLI)
    async with serving(notes_app, limited) as client:
        assert (await post(client, "/v1/notes/guarded", "k")).status_code == 403
    assert (await post(notes, "/v1/notes", "k")).status_code == 201
