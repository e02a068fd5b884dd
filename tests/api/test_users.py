"""Teammates: who may change whom, and what happens to those who leave."""

import asyncio
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import select, text

from api import authentication, remembered
from api.authentication import Authenticator
from core.actor import CLI
from core.database import Database
from core.errors import UnauthorizedError
from models import Activity, UserAccount
from models.users import USER_ROLES
from services.tenancy import api_keys, users
from tests.api.conftest import serving
from tests.eventually import eventually
from tests.factories.teammates import PASSWORD, add_user, address, token_of

WAITING = text("""
    SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE NOT l.granted AND a.datname = current_database()
""")
BELOW = {"owner": set(USER_ROLES), "admin": set(USER_ROLES) - {"owner"}}


async def test_users_are_listed_and_found(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    made = [await add_user(database, tenant_id, role) for role in ("owner", "sales", "marketer")]
    page = (await client.get("/v1/users", params={"limit": 2})).json()
    rest = (await client.get("/v1/users", params={"cursor": page["next_cursor"]})).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [str(user.id) for user in reversed(made)]
    assert rest["next_cursor"] is None
    one = (await client.get(f"/v1/users/{made[1].id}")).json()
    assert (one["role"], one["email"], one["disabled"]) == ("sales", made[1].email, False)
    assert "argon2" not in str(one)
    assert (await client.get(f"/v1/users/{uuid4()}")).status_code == 404


@pytest.mark.parametrize("who", USER_ROLES)
async def test_nobody_raises_anybody_above_themselves(
    app: FastAPI, database: Database, tenant_id: UUID, who: str
) -> None:
    await add_user(database, tenant_id)  # so that the last owner is not the question
    me = await add_user(database, tenant_id, who)
    async with serving(app, await token_of(database, me)) as client:
        for role in USER_ROLES:
            other = await add_user(database, tenant_id, role)
            allowed = role in BELOW.get(who, set())
            renamed = await client.patch(f"/v1/users/{other.id}", json={"name": "Eve"})
            assert renamed.status_code == (200 if allowed else 403), (who, role)
            for wanted in USER_ROLES:
                other = await add_user(database, tenant_id, role)
                may = allowed and wanted in BELOW.get(who, set())
                answer = await client.patch(f"/v1/users/{other.id}", json={"role": wanted})
                assert answer.status_code == (200 if may else 403), (who, role, wanted)
                invited = await client.post("/v1/invitations", json={"email": address(), "role": wanted})
                assert invited.status_code == (201 if wanted in BELOW.get(who, set()) else 403)
        own = await client.patch(f"/v1/users/{me.id}", json={"role": "owner"})
        assert own.status_code == (200 if who == "owner" else 403)


async def test_a_key_manages_those_who_may_do_no_more_than_it(
    app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    reader = await add_user(database, tenant_id, "read_only")
    scopes = ["users:write", *(f"{noun}:read" for noun in api_keys.NOUNS)]
    async with database.tenant(tenant_id) as session:
        _, secret = await api_keys.create(session, "people", scopes, by=CLI)
    async with serving(app, secret) as client:
        assert (await client.patch(f"/v1/users/{reader.id}", json={"name": "Eve"})).status_code == 200
        refused = await client.patch(f"/v1/users/{reader.id}", json={"role": "sales"})
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["field"] == "role"


async def test_a_user_makes_no_key_that_may_do_more(app: FastAPI, database: Database, tenant_id: UUID) -> None:
    owner, admin = await add_user(database, tenant_id), await add_user(database, tenant_id, "admin")
    body = {"name": "shop", "scopes": ["people:read"]}
    async with serving(app, await token_of(database, admin)) as client:
        refused = await client.post("/v1/api-keys", json=body)
        assert refused.status_code == 403
        assert "admin" in refused.json()["detail"]
    async with serving(app, await token_of(database, owner)) as client:
        assert (await client.post("/v1/api-keys", json=body)).status_code == 201


@pytest.mark.parametrize("body", [{"role": "admin"}, {"disabled": True}, {"role": "sales", "disabled": True}])
async def test_the_last_owner_stays(
    client: AsyncClient, database: Database, tenant_id: UUID, body: dict[str, object]
) -> None:
    last = await add_user(database, tenant_id)
    refused = await client.patch(f"/v1/users/{last.id}", json=body)
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["field"] in body
    assert (await client.get(f"/v1/users/{last.id}")).json()["role"] == "owner"
    gone = await add_user(database, tenant_id)
    assert (await client.patch(f"/v1/users/{gone.id}", json={"disabled": True})).status_code == 200
    assert (await client.patch(f"/v1/users/{last.id}", json=body)).status_code == 409
    await add_user(database, tenant_id)
    assert (await client.patch(f"/v1/users/{last.id}", json=body)).status_code == 200


async def test_owners_who_demote_each_other_at_once_leave_one(
    app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    owners = [await add_user(database, tenant_id) for _ in range(4)]
    tokens = [await token_of(database, owner) for owner in owners]

    async def demote(number: int) -> int:
        async with serving(app, tokens[number]) as client:
            answer = await client.patch(f"/v1/users/{owners[number - 1].id}", json={"role": "sales"})
            return answer.status_code

    async with database.tenant(tenant_id) as session:
        # all have been let in as owners before the first of them is none any more
        rows = select(UserAccount.id).where(UserAccount.tenant_id == tenant_id).with_for_update()
        await session.execute(rows)
        asked = [asyncio.create_task(demote(number)) for number in range(4)]

        async def waiting() -> bool:
            async with database.system() as looking:
                return await looking.scalar(WAITING) == len(asked)

        await eventually(waiting)
    codes = await asyncio.gather(*asked)
    assert sorted(codes) == [200, 200, 200, 409]
    async with database.tenant(tenant_id) as session:
        left = [user for user in await users.page(session, limit=10) if user.role == "owner"]
    assert len(left) == 1


async def test_who_is_disabled_is_out_at_once_here_and_soon_elsewhere(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await add_user(database, tenant_id, "admin")
    token = await token_of(database, user)
    elsewhere = Authenticator(database)
    await elsewhere.authenticate(f"Bearer {token}")
    async with serving(app, token) as theirs:
        invited = (await theirs.post("/v1/invitations", json={"email": address(), "role": "sales"})).json()
        assert (await client.patch(f"/v1/users/{user.id}", json={"disabled": True})).json()["disabled"] is True
        assert (await theirs.get("/v1/me")).status_code == 401
        body = {"email": user.email, "password": PASSWORD}
        assert (await theirs.post("/v1/sessions", json=body)).status_code == 401
        acceptance = {"token": invited["token"], "name": "Mole", "password": PASSWORD}
        assert (await theirs.post("/v1/invitations/accept", json=acceptance)).status_code == 404
        later = remembered.time.monotonic() + authentication.TTL
        monkeypatch.setattr(remembered.time, "monotonic", lambda: later)
        with pytest.raises(UnauthorizedError):
            await elsewhere.authenticate(f"Bearer {token}")
        monkeypatch.undo()
        assert (await client.patch(f"/v1/users/{user.id}", json={"disabled": False})).json()["disabled"] is False
        assert (await theirs.get("/v1/me")).status_code == 401  # what was ended stays so
        assert (await theirs.post("/v1/sessions", json=body)).status_code == 201


async def test_another_role_holds_from_the_next_request_on(
    client: AsyncClient, app: FastAPI, database: Database, tenant_id: UUID
) -> None:
    user = await add_user(database, tenant_id, "read_only")
    async with serving(app, await token_of(database, user)) as theirs:
        refused = await theirs.post("/v1/people", json={"first_name": "x"})
        assert refused.status_code == 403
        assert refused.json()["required_scope"] == "people:write"
        await client.patch(f"/v1/users/{user.id}", json={"role": "sales"})
        assert (await theirs.post("/v1/people", json={"first_name": "x"})).status_code == 201


async def test_a_change_is_logged_and_no_change_is_not(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    user = await add_user(database, tenant_id, "sales")
    for _ in range(2):
        await client.patch(f"/v1/users/{user.id}", json={"name": " Eve ", "role": "marketer", "disabled": False})
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(
            select(Activity)
            .where(Activity.tenant_id == tenant_id, Activity.subject_id == user.id)
            .order_by(Activity.id)
        )
        logged = [(row.type, row.changes) for row in rows]
        assert await users.exists(session, user.id)
        assert not await users.exists(session, uuid4())
    assert logged == [
        ("user.created", {"email": [None, user.email], "name": [None, "Ann"], "role": [None, "sales"]}),
        ("user.updated", {"name": ["Ann", "Eve"], "role": ["sales", "marketer"]}),
    ]
    await client.patch(f"/v1/users/{user.id}", json={"disabled": True})
    async with database.tenant(tenant_id) as session:
        assert not await users.exists(session, user.id)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "king"}, "role"),
        ({"name": " "}, "name"),
        ({"email": "x@y.example"}, "email"),
        ({"disabled": 1}, "disabled"),
    ],
)
async def test_a_wrong_change_is_refused(
    client: AsyncClient, database: Database, tenant_id: UUID, body: dict[str, object], field: str
) -> None:
    user = await add_user(database, tenant_id)
    refused = await client.patch(f"/v1/users/{user.id}", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
