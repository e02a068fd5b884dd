"""Invitations: shown once, good once, for seven days."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import func, select

from api.dependencies import get_now
from core.database import Database
from models import UserAccount
from services.tenancy import tenants
from tests.api.conftest import serving
from tests.factories.teammates import PASSWORD, add_user, address, token_of


async def invite(client: AsyncClient, email: str | None = None, **more: object) -> dict[str, Any]:
    answer = await client.post("/v1/invitations", json={"email": email or address(), "role": "sales", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def accept(client: AsyncClient, token: str, password: str = PASSWORD, name: str | None = "Ben") -> Response:
    body = {"token": token, "password": password} | ({"name": name} if name else {})
    return await client.post("/v1/invitations/accept", json=body)


async def test_who_is_invited_joins_and_is_signed_in(
    client: AsyncClient, anonymous: AsyncClient, app: FastAPI, database_url: str, tenant_id: UUID
) -> None:
    made = await client.post("/v1/invitations", json={"email": "Ben@Shop.Example", "role": "sales", "name": "Ben"})
    assert made.headers["cache-control"] == "no-store"
    invitation = made.json()
    assert (invitation["email"], invitation["status"]) == ("ben@shop.example", "open")
    assert invitation["accept_url"].endswith(f"/join#{invitation['token']}")
    listed = await client.get("/v1/invitations")
    assert invitation["token"] not in listed.text
    joined = await accept(anonymous, invitation["token"], name=None)
    assert joined.status_code == 201, joined.text
    assert joined.headers["cache-control"] == "no-store"
    assert joined.json()["user"]["name"] == "Ben"
    async with serving(app, joined.json()["token"]) as ben:
        me = (await ben.get("/v1/me")).json()
        assert me["user"]["role"] == "sales"
        assert (await ben.get("/v1/invitations")).json()["items"][0]["status"] == "accepted"
    connection = await asyncpg.connect(database_url)
    dump = await connection.fetchval(
        "SELECT (SELECT string_agg(i::text, '') FROM invitation i WHERE tenant_id = $1)"
        " || (SELECT string_agg(a::text, '') FROM activity a WHERE tenant_id = $1)",
        tenant_id,
    )
    await connection.close()
    assert "invitation.accepted" in dump
    assert invitation["token"].removeprefix("tl_join_")[8:] not in dump


async def test_a_token_works_once_even_for_two_at_a_time(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    token = (await invite(client))["token"]
    answers = await asyncio.gather(*(accept(anonymous, token, name=f"Ben {n}") for n in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 404, 404]
    assert (await accept(anonymous, token)).status_code == 404
    async with database.tenant(tenant_id) as session:
        count = select(func.count()).select_from(UserAccount).where(UserAccount.tenant_id == tenant_id)
        assert await session.scalar(count) == 1


async def test_an_invitation_that_was_refused_for_its_password_is_still_open(
    client: AsyncClient, anonymous: AsyncClient
) -> None:
    made = await invite(client)
    for password in ("short", made["email"]):
        weak = await accept(anonymous, made["token"], password)
        assert [error["field"] for error in weak.json()["errors"]] == ["password"]
    nameless = await accept(anonymous, made["token"], name=None)
    assert [error["field"] for error in nameless.json()["errors"]] == ["name"]
    assert (await accept(anonymous, made["token"])).status_code == 201


async def test_what_is_revoked_replaced_or_too_old_opens_nothing(
    client: AsyncClient, anonymous: AsyncClient, app: FastAPI
) -> None:
    revoked, replaced, old = [await invite(client) for _ in range(3)]
    for _ in range(2):
        assert (await client.delete(f"/v1/invitations/{revoked['id']}")).status_code == 204
    assert (await accept(anonymous, revoked["token"])).status_code == 404
    successor = await invite(client, replaced["email"], role="read_only")
    assert (await accept(anonymous, replaced["token"])).status_code == 404
    assert (await accept(anonymous, successor["token"])).json()["user"]["role"] == "read_only"
    later = datetime.now(UTC) + timedelta(days=7, seconds=1)
    app.dependency_overrides[get_now] = lambda: later
    try:
        assert (await accept(anonymous, old["token"])).status_code == 404
        listed = (await client.get("/v1/invitations")).json()["items"]
    finally:
        del app.dependency_overrides[get_now]
    assert [item["status"] for item in listed] == ["accepted", "expired", "closed", "closed"]
    assert (await accept(anonymous, "tl_join_nothing")).status_code == 404


async def test_a_key_that_is_revoked_takes_its_invitations_with_it(
    client: AsyncClient, anonymous: AsyncClient, app: FastAPI
) -> None:
    key = (await client.post("/v1/api-keys", json={"name": "staff", "scopes": ["*"]})).json()
    async with serving(app, key["secret"]) as other:
        theirs = await invite(other)
    ours = await invite(client)
    assert (await client.delete(f"/v1/api-keys/{key['id']}")).status_code == 204
    assert (await accept(anonymous, theirs["token"])).status_code == 404
    assert (await accept(anonymous, ours["token"])).status_code == 201


async def test_an_address_is_invited_once_at_a_time(client: AsyncClient) -> None:
    email = address()
    body = {"email": email, "role": "sales"}
    answers = await asyncio.gather(*(client.post("/v1/invitations", json=body) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    listed = (await client.get("/v1/invitations")).json()["items"]
    assert [item["status"] for item in listed].count("open") == 1


async def test_a_teammate_is_not_invited_again(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    user = await add_user(database, tenant_id)
    refused = await client.post("/v1/invitations", json={"email": user.email, "role": "sales"})
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["field"] == "email"


async def test_nobody_touches_an_invitation_to_more_than_they_may(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    made = await invite(client, role="owner")
    admin = await add_user(database, tenant_id, "admin")
    async with serving(app, await token_of(database, admin)) as theirs:
        assert (await theirs.delete(f"/v1/invitations/{made['id']}")).status_code == 403
        # nor takes its place by inviting the same address to less
        again = await theirs.post("/v1/invitations", json={"email": made["email"], "role": "sales"})
        assert again.status_code == 403


async def test_another_tenants_invitation_is_not_found(client: AsyncClient, app: FastAPI, database: Database) -> None:
    made = await invite(client)
    async with database.system() as session:
        other = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    stranger = await add_user(database, other.id)
    async with serving(app, await token_of(database, stranger)) as theirs:
        assert (await theirs.delete(f"/v1/invitations/{made['id']}")).status_code == 404
        assert (await theirs.get("/v1/invitations")).json()["items"] == []
        assert (await invite(theirs, made["email"]))["status"] == "open"  # an address may be in several tenants


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "nobody", "role": "sales"}, "email"),
        ({"email": "a@shop.example", "role": "king"}, "role"),
        ({"email": "a@shop.example"}, "role"),
        ({"email": "a@shop.example", "role": "sales", "name": ""}, "name"),
    ],
)
async def test_a_wrong_invitation_is_refused(client: AsyncClient, body: dict[str, object], field: str) -> None:
    refused = await client.post("/v1/invitations", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_the_page_behind_the_link_loads_nothing_and_tells_nobody(anonymous: AsyncClient) -> None:
    page = await anonymous.get("/join")
    assert page.status_code == 200
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "src=" not in page.text
