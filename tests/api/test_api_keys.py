"""Keys: what they are, what they allow, and how soon a revoked one is refused."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from api import authentication, remembered
from api.authentication import Authenticator
from core.actor import CLI
from core.database import Database
from core.errors import UnauthorizedError
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving


async def key_with(database: Database, tenant_id: UUID, *scopes: str) -> str:
    async with database.tenant(tenant_id) as session:
        return (await api_keys.create(session, "limited", scopes, by=CLI))[1]


async def test_the_secret_is_shown_once_and_only_its_hash_is_stored(
    client: AsyncClient, database_url: str, tenant_id: UUID
) -> None:
    made = await client.post("/v1/api-keys", json={"name": "shop", "scopes": ["people:read", "people:read"]})
    assert made.status_code == 201
    secret: str = made.json()["secret"]
    assert secret.startswith("tl_live_")
    assert len(secret) >= len("tl_live_") + 43
    assert made.json()["scopes"] == ["people:read"]
    listed = await client.get("/v1/api-keys")
    assert "secret" not in listed.json()["items"][0]
    assert secret not in listed.text
    assert secret.startswith(listed.json()["items"][0]["prefix"])
    connection = await asyncpg.connect(database_url)
    dump = await connection.fetchval(
        "SELECT string_agg(k::text, '') || (SELECT string_agg(a::text, '') FROM activity a WHERE tenant_id = $1)"
        " FROM api_key k WHERE tenant_id = $1",
        tenant_id,
    )
    await connection.close()
    assert secret not in dump
    assert secret.removeprefix("tl_live_")[8:] not in dump
    assert "api_key.created" in dump


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic dXNlcg==", "Bearer tl_live_unknown", "Bearer other", "tl_live_x"]
)
async def test_without_a_valid_key_nothing_is_answered(anonymous: AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = await anonymous.get("/v1/tenant", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["type"].endswith("/unauthorized")


async def test_a_missing_scope_is_named(app: FastAPI, database: Database, tenant_id: UUID) -> None:
    async with serving(app, await key_with(database, tenant_id, "tenant:read")) as client:
        assert (await client.get("/v1/tenant")).status_code == 200
        refused = await client.patch("/v1/tenant", json={"name": "x"})
    assert refused.status_code == 403
    assert refused.json()["required_scope"] == "tenant:write"
    assert "tenant:write" in refused.json()["detail"]


async def test_a_key_cannot_grant_what_it_lacks(app: FastAPI, database: Database, tenant_id: UUID) -> None:
    async with serving(app, await key_with(database, tenant_id, "api_keys:write", "people:read")) as client:
        for scopes in (["*"], ["people:write"], ["people:read", "events:write"]):
            refused = await client.post("/v1/api-keys", json={"name": "more", "scopes": scopes})
            assert refused.status_code == 403, scopes
            assert refused.json()["errors"][0]["field"] == "scopes"
        granted = await client.post("/v1/api-keys", json={"name": "less", "scopes": ["people:read"]})
    assert granted.status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["people:fly"]}, "scopes"),
        ({"name": "  ", "scopes": ["*"]}, "name"),
        ({"name": "x" * 201, "scopes": ["*"]}, "name"),
        ({"scopes": ["*"]}, "name"),
        ({"name": "x", "scopes": "*"}, "scopes"),
    ],
)
async def test_a_wrong_key_is_not_made(client: AsyncClient, body: object, field: str) -> None:
    refused = await client.post("/v1/api-keys", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_a_revoked_key_is_refused_at_once_by_this_process(client: AsyncClient, app: FastAPI) -> None:
    made = (await client.post("/v1/api-keys", json={"name": "shop", "scopes": ["tenant:read"]})).json()
    async with serving(app, made["secret"]) as other:
        assert (await other.get("/v1/tenant")).status_code == 200
        for _ in range(2):
            assert (await client.delete(f"/v1/api-keys/{made['id']}")).status_code == 204
            assert (await other.get("/v1/tenant")).status_code == 401
    listed = (await client.get("/v1/api-keys")).json()["items"]
    assert next(key for key in listed if key["id"] == made["id"])["revoked_at"]


async def test_a_look_up_under_way_does_not_bring_a_revoked_key_back(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await key_with(database, tenant_id, "*")
    authenticator = Authenticator(database)
    find = api_keys.find

    async def overtaken(session: AsyncSession, secret_hash: bytes) -> api_keys.Credential | None:
        found = await find(session, secret_hash)
        if found is not None and found.key_id is not None:
            async with database.tenant(tenant_id) as other:
                await api_keys.revoke(other, found.key_id, by=CLI)
            authenticator.refuse(secret_hash)
        return found

    monkeypatch.setattr(api_keys, "find", overtaken)
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            await authenticator.authenticate(f"Bearer {secret}")


async def test_another_process_refuses_a_revoked_key_once_it_asks_again(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await key_with(database, tenant_id, "*")
    here, there = Authenticator(database), Authenticator(database)
    header = f"Bearer {secret}"
    principal = await there.authenticate(header)
    assert principal.key_id is not None
    async with database.tenant(tenant_id) as session:
        here.refuse(await api_keys.revoke(session, principal.key_id, by=CLI))
    with pytest.raises(UnauthorizedError):
        await here.authenticate(header)
    await there.authenticate(header)  # believed for a while
    later = remembered.time.monotonic() + authentication.TTL
    monkeypatch.setattr(remembered.time, "monotonic", lambda: later)
    with pytest.raises(UnauthorizedError):
        await there.authenticate(header)


async def test_a_known_key_costs_no_question_and_memory_is_bounded(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    find = api_keys.find

    async def counted(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return await find(*arguments)  # pyright: ignore[reportArgumentType]  # passed through

    monkeypatch.setattr(api_keys, "find", counted)
    monkeypatch.setattr(authentication, "CAPACITY", 2)
    authenticator = Authenticator(database)
    secrets = [await key_with(database, tenant_id, "*") for _ in range(3)]
    for secret in [secrets[0], secrets[0], secrets[1], secrets[0], secrets[2], secrets[0]]:
        await authenticator.authenticate(f"Bearer {secret}")
    assert asked == 3  # the first one stayed, being used most lately
    await authenticator.authenticate(f"Bearer {secrets[1]}")
    assert asked == 4


async def test_another_tenants_key_is_not_found(client: AsyncClient, app: FastAPI, database: Database) -> None:
    async with database.system() as session:
        other = await tenants.create(session, f"other-{uuid4().hex}", "Other")
    secret = await key_with(database, other.id, "*")
    async with database.tenant(other.id) as session:
        [theirs] = await api_keys.list_keys(session, limit=10)
    assert (await client.delete(f"/v1/api-keys/{theirs.id}")).status_code == 404
    assert str(theirs.id) not in (await client.get("/v1/api-keys")).text
    async with serving(app, secret) as client_of_other:
        assert (await client_of_other.get("/v1/tenant")).json()["id"] == str(other.id)


async def test_keys_are_listed_newest_first_page_by_page(client: AsyncClient) -> None:
    made = [
        (await client.post("/v1/api-keys", json={"name": f"k{number}", "scopes": ["*"]})).json()["id"]
        for number in range(4)
    ]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (await client.get("/v1/api-keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [key["id"] for key in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen[:4] == made[::-1]
    assert len(seen) == 5  # the test's own key is the oldest


@pytest.mark.parametrize(
    "parameters", [{"limit": 0}, {"limit": 201}, {"limit": "all"}, {"cursor": "!"}, {"cursor": "bm8"}]
)
async def test_a_wrong_page_is_refused(client: AsyncClient, parameters: dict[str, str]) -> None:
    refused = await client.get("/v1/api-keys", params=parameters)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == list(parameters)


async def test_a_revocation_that_is_rolled_back_leaves_the_key(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    secret = await key_with(database, tenant_id, "tenant:read")
    async with database.tenant(tenant_id) as session:
        [key, *_] = await api_keys.list_keys(session, limit=1)
        await api_keys.revoke(session, key.id, by=CLI)
        await session.rollback()
    async with serving(app, secret) as other:
        answers = await asyncio.gather(*(other.get("/v1/tenant") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
