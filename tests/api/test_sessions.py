"""Signing in and out, by password and token, and what is told to those who try."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from api import remembered
from api.authentication import TTL, Authenticator
from api.dependencies import get_now
from core.actor import CLI
from core.database import Database
from core.errors import UnauthorizedError
from models import Activity, UserAccount, UserSession
from services.tenancy import passwords, sessions, tenants, throttle, users
from tests.api.conftest import serving
from tests.factories.teammates import PASSWORD, add_user, address, password_hash, token_of


async def sign_in(client: AsyncClient, email: str, password: str = PASSWORD, tenant: str | None = None) -> Response:
    body = {"email": email, "password": password} | ({"tenant": tenant} if tenant else {})
    return await client.post("/v1/sessions", json=body)


@pytest.fixture
async def user(database: Database, tenant_id: UUID) -> UserAccount:
    return await add_user(database, tenant_id)


@pytest.fixture
async def signed_in(app: FastAPI, database: Database, user: UserAccount) -> AsyncGenerator[AsyncClient]:
    async with serving(app, await token_of(database, user)) as client:
        yield client


async def test_a_password_opens_a_session_that_acts_as_the_user(
    anonymous: AsyncClient, app: FastAPI, database: Database, user: UserAccount
) -> None:
    answer = await sign_in(anonymous, f" {user.email.upper()} ")
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token: str = answer.json()["token"]
    assert token.startswith("tl_sess_")
    assert len(token) >= len("tl_sess_") + 43
    assert answer.json()["user"]["email"] == user.email
    assert answer.json()["user"]["last_sign_in_at"] is not None
    async with serving(app, token) as client:
        me = (await client.get("/v1/me")).json()
        assert me["user"]["id"] == str(user.id)
        assert me["scopes"] == ["*"]
        assert me["tenant"]["id"] == str(user.tenant_id)
        assert me["api_key_id"] is None
        made = await client.post("/v1/people", json={"email": "ann@shop.example"})
        assert made.status_code == 201
    async with database.tenant(user.tenant_id) as session:
        actors = select(Activity.actor).where(Activity.tenant_id == user.tenant_id, Activity.type == "person.created")
        assert (await session.scalars(actors)).all() == [f"user:{user.id}"]


async def test_an_api_key_says_who_it_is_but_is_nobody(client: AsyncClient) -> None:
    me = (await client.get("/v1/me")).json()
    assert (me["user"], me["session_id"]) == (None, None)
    assert me["api_key_id"] is not None
    for method, path in (("GET", "/v1/sessions"), ("DELETE", "/v1/sessions/current")):
        assert (await client.request(method, path)).status_code == 403
    body = {"current": PASSWORD, "new": "another sentence"}
    assert (await client.post("/v1/me/password", json=body)).status_code == 403


async def test_neither_answer_nor_work_tells_whether_an_address_is_known(
    anonymous: AsyncClient, user: UserAccount, database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled = await add_user(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(UserAccount)
            .where(UserAccount.tenant_id == tenant_id, UserAccount.id == disabled.id)
            .values(disabled_at=datetime.now(UTC))
        )
        key = (await tenants.get(session)).key
    worked = 0
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, hash: str, password: str) -> bool:  # noqa: A002 - the library's name
        nonlocal worked
        worked += 1
        return verify(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for tenant, work in ((None, 2), (key, 1), ("no-such-tenant", 1)):
        seen: set[tuple[object, ...]] = set()
        for email, password in (
            (user.email, "not the password"),
            (address(), "not the password"),
            (disabled.email, PASSWORD),
        ):
            worked = 0
            answer = await sign_in(anonymous, email, password, tenant)
            document = answer.json() | {"request_id": None}
            headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
            seen.add((answer.status_code, json.dumps(document), json.dumps(headers), worked))
        assert len(seen) == 1, seen
        [(status, *_, done)] = seen
        assert (status, done) == (401, work)


async def test_known_and_unknown_addresses_are_locked_alike(anonymous: AsyncClient, user: UserAccount) -> None:
    for email in (user.email, address()):
        codes = [(await sign_in(anonymous, email, "not the password")).status_code for _ in range(5)]
        assert codes == [401] * 5
        for password in ("not the password", PASSWORD):
            locked = await sign_in(anonymous, email, password)
            assert locked.status_code == 429
            assert 50 <= int(locked.headers["retry-after"]) <= 60
            assert locked.json()["type"].endswith("/too-many-requests")


async def test_after_the_wait_the_password_opens_again_and_all_is_forgiven(
    anonymous: AsyncClient, app: FastAPI, user: UserAccount
) -> None:
    for _ in range(6):
        await sign_in(anonymous, user.email, "not the password")
    later = datetime.now(UTC) + timedelta(minutes=1)
    app.dependency_overrides[get_now] = lambda: later
    try:
        assert (await sign_in(anonymous, user.email)).status_code == 201
        assert [(await sign_in(anonymous, user.email, "wrong")).status_code for _ in range(4)] == [401] * 4
        assert (await sign_in(anonymous, user.email)).status_code == 201
    finally:
        del app.dependency_overrides[get_now]


async def test_an_account_that_anybody_can_make_clears_no_guesses_at_another(
    anonymous: AsyncClient, app: FastAPI, database: Database, user: UserAccount
) -> None:
    async with database.tenant(user.tenant_id) as session:
        key = (await tenants.get(session)).key
    async with database.system() as session:
        evil = await tenants.create(session, f"test-{uuid4().hex}", "Evil")
    theirs = await add_user(database, evil.id, email=user.email)
    async with database.tenant(evil.id) as session:
        await users.set_password(
            session, theirs, await passwords.hash_of("a password of evil"), by=CLI, now=datetime.now(UTC)
        )

    async def guess() -> int:
        return (await sign_in(anonymous, user.email, "not the password", key)).status_code

    assert [await guess() for _ in range(3)] == [401] * 3
    opened = await sign_in(anonymous, user.email, "a password of evil", evil.key)
    assert opened.status_code == 201
    assert await guess() == 401
    async with serving(app, opened.json()["token"]) as client:
        body = {"current": "a password of evil", "new": "another password of evil"}
        assert (await client.post("/v1/me/password", json=body)).status_code == 204
    assert [await guess(), await guess()] == [401, 429]


async def test_who_tries_too_often_waits_whomever_he_claims_to_be(
    app: FastAPI, user: UserAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = app.state.resources.sign_ins
    monkeypatch.setattr(buckets, "_burst", 2)
    monkeypatch.setattr(buckets, "_rate", 0.001)
    codes: list[int] = []
    for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"):
        async with serving(app, host=host) as client:
            answer = await sign_in(client, user.email if host == "192.0.2.1" else address())
            codes.append(answer.status_code)
            assert ("retry-after" in answer.headers) == (answer.status_code == 429)
    assert codes == [401, 401, 429, 201]


async def test_an_old_password_opens_nothing_once_it_was_changed(
    anonymous: AsyncClient, database: Database, user: UserAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded = throttle.succeeded

    async def changed_meanwhile(session: AsyncSession, email: str, opened: int) -> None:
        await succeeded(session, email, opened)
        async with database.tenant(user.tenant_id) as other:
            fresh = await passwords.hash_of("another password")
            await users.set_password(other, user, fresh, by=CLI, now=datetime.now(UTC))

    monkeypatch.setattr(throttle, "succeeded", changed_meanwhile)
    assert (await sign_in(anonymous, user.email)).status_code == 401
    async with database.tenant(user.tenant_id) as session:
        assert await sessions.of_user(session, user.id, now=datetime.now(UTC)) == []


async def test_later_accounts_of_an_address_do_not_keep_the_first_from_signing_in(
    anonymous: AsyncClient, database: Database, user: UserAccount
) -> None:
    for name in ("One", "Two"):
        async with database.system() as session:
            evil = await tenants.create(session, f"test-{uuid4().hex}", name)
        theirs = await add_user(database, evil.id, email=user.email)
        async with database.tenant(evil.id) as session:
            fresh = await passwords.hash_of("a password of evil")
            await users.set_password(session, theirs, fresh, by=CLI, now=datetime.now(UTC))
    assert (await sign_in(anonymous, user.email)).json()["user"]["id"] == str(user.id)


async def test_somebody_in_two_tenants_is_asked_which_once_the_password_fits(
    anonymous: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    async with database.system() as session:
        other = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    email = address()
    await add_user(database, tenant_id, email=email)
    theirs = await add_user(database, other.id, "sales", email)
    async with database.tenant(tenant_id) as session:
        key = (await tenants.get(session)).key
    wrong = await sign_in(anonymous, email, "not the password")
    assert wrong.status_code == 401
    assert key not in wrong.text
    several = await sign_in(anonymous, email)
    assert several.status_code == 409
    assert several.json()["tenants"] == sorted([key, other.key])
    chosen = await sign_in(anonymous, email, tenant=other.key)
    assert chosen.json()["user"]["id"] == str(theirs.id)
    async with database.tenant(other.id) as session:
        fresh = await passwords.hash_of("a password of another tenant")
        await session.execute(
            update(UserAccount)
            .where(UserAccount.tenant_id == other.id, UserAccount.id == theirs.id)
            .values(password_hash=fresh)
        )
    assert (await sign_in(anonymous, email, "a password of another tenant")).json()["user"]["id"] == str(theirs.id)
    assert (await sign_in(anonymous, email)).status_code == 201


async def test_a_hash_of_old_parameters_is_made_anew(
    anonymous: AsyncClient, database: Database, user: UserAccount
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    kept = select(UserAccount.password_hash).where(UserAccount.tenant_id == user.tenant_id, UserAccount.id == user.id)
    async with database.tenant(user.tenant_id) as session:
        await session.execute(
            update(UserAccount)
            .where(UserAccount.tenant_id == user.tenant_id, UserAccount.id == user.id)
            .values(password_hash=old)
        )
    assert (await sign_in(anonymous, user.email, "not the password")).status_code == 401
    async with database.tenant(user.tenant_id) as session:
        assert await session.scalar(kept) == old
    assert (await sign_in(anonymous, user.email)).status_code == 201
    async with database.tenant(user.tenant_id) as session:
        fresh = await session.scalar(kept)
    assert fresh is not None
    assert not passwords.is_outdated(fresh)
    assert (await sign_in(anonymous, user.email)).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "nobody", "password": PASSWORD}, "email"),
        ({"email": "a@shop.example"}, "password"),
        ({"email": "a@shop.example", "password": "x" * 257}, "password"),
        ({"email": "a@shop.example", "password": 5}, "password"),
        ({"email": "a@shop.example", "password": PASSWORD, "role": "owner"}, "role"),
    ],
)
async def test_a_malformed_sign_in_names_the_field_and_never_repeats_the_password(
    anonymous: AsyncClient, body: dict[str, object], field: str
) -> None:
    refused = await anonymous.post("/v1/sessions", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert "x" * 257 not in refused.text


async def test_nothing_that_is_kept_holds_a_token_or_a_password(
    anonymous: AsyncClient, user: UserAccount, database_url: str
) -> None:
    token: str = (await sign_in(anonymous, user.email)).json()["token"]
    connection = await asyncpg.connect(database_url)
    dump = await connection.fetchval(
        "SELECT (SELECT string_agg(s::text, '') FROM user_session s WHERE tenant_id = $1)"
        " || (SELECT string_agg(u::text, '') FROM user_account u WHERE tenant_id = $1)"
        " || (SELECT string_agg(a::text, '') FROM activity a WHERE tenant_id = $1)",
        user.tenant_id,
    )
    await connection.close()
    assert "user.signed_in" in dump
    assert token.removeprefix("tl_sess_")[8:] not in dump
    assert PASSWORD not in dump
    activity_alone = dump.partition("user.created")[2]
    assert "argon2" not in activity_alone


async def test_a_repeated_sign_in_with_an_idempotency_key_is_not_answered_with_the_secret(
    client: AsyncClient, user: UserAccount
) -> None:
    body = {"email": user.email, "password": PASSWORD}
    first = await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "one"})
    again = await client.post("/v1/sessions", json=body, headers={"Idempotency-Key": "one"})
    assert (first.status_code, again.status_code) == (201, 409)
    assert "tl_sess_" not in again.text


async def test_a_users_repeated_request_is_answered_again_from_any_session_of_theirs(
    signed_in: AsyncClient, app: FastAPI, database: Database, user: UserAccount
) -> None:
    headers = {"Idempotency-Key": "person"}
    first = await signed_in.post("/v1/people", json={"first_name": "Ann"}, headers=headers)
    async with serving(app, await token_of(database, user)) as elsewhere:
        again = await elsewhere.post("/v1/people", json={"first_name": "Ann"}, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    colleague = await add_user(database, user.tenant_id)
    async with serving(app, await token_of(database, colleague)) as other:
        refused = await other.post("/v1/people", json={"first_name": "Ann"}, headers=headers)
    assert refused.status_code == 422


async def test_one_sees_and_ends_ones_own_sessions_alone(
    signed_in: AsyncClient, app: FastAPI, database: Database, user: UserAccount
) -> None:
    colleague = await add_user(database, user.tenant_id)
    async with (
        serving(app, await token_of(database, user)) as second,
        serving(app, await token_of(database, colleague)) as theirs,
    ):
        listed = (await signed_in.get("/v1/sessions")).json()["items"]
        assert [item["current"] for item in listed] == [False, True]
        [foreign] = (await theirs.get("/v1/sessions")).json()["items"]
        assert (await signed_in.delete(f"/v1/sessions/{foreign['id']}")).status_code == 404
        assert (await second.get("/v1/me")).status_code == 200
        for _ in range(2):
            assert (await signed_in.delete(f"/v1/sessions/{listed[0]['id']}")).status_code == 204
            assert (await second.get("/v1/me")).status_code == 401
        assert (await signed_in.delete("/v1/sessions/current")).status_code == 204
        over = await signed_in.get("/v1/me")
        assert over.status_code == 401
        assert over.headers["www-authenticate"].startswith("Bearer")
        assert (await theirs.get("/v1/me")).status_code == 200


async def test_a_session_ends_by_idleness_and_in_any_case_after_thirty_days(
    database: Database, user: UserAccount
) -> None:
    header = f"Bearer {await token_of(database, user)}"
    began = datetime.now(UTC)
    ends = began
    now = began

    async def works() -> bool:
        try:
            await Authenticator(database, clock=lambda: now).authenticate(header)  # which remembers nothing
        except UnauthorizedError:
            return False
        return True

    assert await works()
    while True:
        now += timedelta(hours=11, minutes=59)
        if not await works():
            break
        ends = now
    assert timedelta(days=29, hours=12) < ends - began <= timedelta(days=30)

    header = f"Bearer {await token_of(database, user)}"
    now = datetime.now(UTC) + timedelta(hours=12, seconds=1)
    assert not await works()


async def test_use_is_written_once_a_minute_at_most(database: Database, user: UserAccount) -> None:
    header = f"Bearer {await token_of(database, user)}"
    kept = select(UserSession.last_used_at).where(
        UserSession.tenant_id == user.tenant_id, UserSession.user_id == user.id
    )

    async def written(now: datetime) -> datetime:
        await Authenticator(database, clock=lambda: now).authenticate(header)
        async with database.tenant(user.tenant_id) as session:
            at = await session.scalar(kept)
            assert at is not None
            return at

    first = await written(datetime.now(UTC))
    assert await written(first + timedelta(seconds=59)) == first
    moved = first + timedelta(seconds=61)
    assert await written(moved) == moved


async def test_a_remembered_session_is_not_believed_past_its_end(
    database: Database, user: UserAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = f"Bearer {await token_of(database, user)}"
    now = datetime.now(UTC) + sessions.LONGEST - timedelta(seconds=3)
    async with database.tenant(user.tenant_id) as session:
        await session.execute(
            update(UserSession)
            .where(UserSession.tenant_id == user.tenant_id, UserSession.user_id == user.id)
            .values(last_used_at=now - timedelta(seconds=5), expires_at=now + timedelta(seconds=3))
        )
    authenticator = Authenticator(database, clock=lambda: now)
    await authenticator.authenticate(header)
    async with database.tenant(user.tenant_id) as session:
        await session.execute(delete(UserSession).where(UserSession.tenant_id == user.tenant_id))
    await authenticator.authenticate(header)  # it is believed
    later = remembered.time.monotonic() + TTL / 2
    monkeypatch.setattr(remembered.time, "monotonic", lambda: later)
    with pytest.raises(UnauthorizedError):
        await authenticator.authenticate(header)


async def test_changing_the_password_ends_all_other_sessions(
    signed_in: AsyncClient, app: FastAPI, database: Database, user: UserAccount, anonymous: AsyncClient
) -> None:
    new = "quite another sentence"
    async with serving(app, await token_of(database, user)) as other:
        assert (await other.get("/v1/me")).status_code == 200
        refused = await signed_in.post("/v1/me/password", json={"current": "not mine at all", "new": new})
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == ["current"]
        weak = await signed_in.post("/v1/me/password", json={"current": PASSWORD, "new": "short"})
        assert [error["field"] for error in weak.json()["errors"]] == ["new"]
        assert (await other.get("/v1/me")).status_code == 200
        changed = await signed_in.post("/v1/me/password", json={"current": PASSWORD, "new": new})
        assert changed.status_code == 204, changed.text
        assert (await other.get("/v1/me")).status_code == 401
    assert (await signed_in.get("/v1/me")).status_code == 200
    assert (await sign_in(anonymous, user.email)).status_code == 401
    assert (await sign_in(anonymous, user.email, new)).status_code == 201


async def test_guessing_the_current_password_is_throttled_too(signed_in: AsyncClient) -> None:
    body = {"current": "not mine at all", "new": "quite another sentence"}
    codes = [(await signed_in.post("/v1/me/password", json=body)).status_code for _ in range(6)]
    assert codes == [422] * 5 + [429]


async def test_sessions_that_are_over_are_deleted(database: Database, user: UserAccount) -> None:
    await token_of(database, user)
    await token_of(database, user)
    mine = select(UserSession).where(UserSession.tenant_id == user.tenant_id)
    async with database.tenant(user.tenant_id) as session:
        over = (await session.scalars(mine)).first()
        assert over is not None
        over.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    async with database.system() as session:
        assert await sessions.purge(session) >= 1
    async with database.tenant(user.tenant_id) as session:
        [left] = (await session.scalars(mine)).all()
        assert left.id != over.id


async def test_a_session_of_another_tenants_user_is_out_of_reach(
    signed_in: AsyncClient, database: Database, app: FastAPI
) -> None:
    async with database.system() as session:
        other = await tenants.create(session, f"test-{uuid4().hex}", "Other")
    stranger = await add_user(database, other.id)
    async with serving(app, await token_of(database, stranger)) as theirs:
        [session_out] = (await theirs.get("/v1/sessions")).json()["items"]
        assert (await signed_in.delete(f"/v1/sessions/{session_out['id']}")).status_code == 404
        assert (await signed_in.get(f"/v1/users/{stranger.id}")).status_code == 404
        assert (await theirs.get("/v1/me")).status_code == 200


def test_the_password_of_the_tests_fits() -> None:
    assert password_hash().startswith("$argon2id$")
