"""Signing in and out. See docs/users.md for what is told to whom."""

import ipaddress
from contextlib import suppress
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Request, Response
from pydantic import Field, SecretStr

from api.dependencies import AuthenticatorDep, NowDep, ResourcesDep, SessionDep, SignedInDep
from api.fields import Strict
from api.rest.users import UserOut, refuse_after_commit
from api.routing import Router
from api.tracking.rates import network_of
from core.actor import Actor
from core.database import Database
from core.errors import ConflictError, FieldProblem, UnauthorizedError
from models import UserSession
from services.identity import normalize
from services.tenancy import passwords, sessions, throttle, users

router = Router(prefix="/sessions", tags=["users"])

Password = Annotated[SecretStr, Field(max_length=256, examples=["a sentence of your own"])]


class SignIn(Strict):
    """Who signs in."""

    email: Annotated[str, Field(max_length=320, examples=["ann@shop.example"])]
    password: Password
    tenant: Annotated[str | None, Field(max_length=63, examples=["shop"])] = None
    """The tenant's key; needed by those who are in several tenants with one password, or in more than two."""


class SessionOut(Strict):
    """A session of one's own."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    """To within a minute."""
    expires_at: datetime
    """Unless it is used before: use puts it off, up to 30 days after the beginning."""
    user_agent: str | None
    ip: str | None
    current: bool
    """Whether this request came with it."""


class SessionList(Strict):
    """All of one's sessions; they are few."""

    items: list[SessionOut]
    next_cursor: None = None


class NewSession(Strict):
    """A session just begun."""

    token: str
    """Send it as `Authorization: Bearer TOKEN`; shown this once."""
    expires_at: datetime
    user: UserOut


@router.post("", status_code=201, responses={401: {}, 409: {}, 429: {}})
async def sign_in(
    body: SignIn, request: Request, response: Response, resources: ResourcesDep, now: NowDep
) -> NewSession:
    """Sign in by address and password. No key is needed.

    401 says no more than that the two do not fit. After five failures an address has to wait (429, `Retry-After`), a
    minute at first and up to a quarter of an hour, whether or not anybody has it; so does who tries too often, for a
    few seconds. Where the password fits in two tenants and none is named, 409 lists their keys.
    """
    response.headers["Cache-Control"] = "no-store"
    resources.sign_ins.take(network_of(request.client))
    email = normalize.email(body.email)
    password = body.password.get_secret_value()
    account = await _checked(resources.database, email, password, body.tenant, now)
    async with resources.database.tenant(account.tenant_id) as session:
        if not await users.still_opens(session, account):
            raise _refused()
        await users.rehash(session, account, password)
        actor = Actor.user(account.user_id, request.state.request_id)
        started, token = await sessions.start(session, account.user_id, origin_of(request), by=actor, now=now)
        user = UserOut.of(await users.get(session, account.user_id))
    return NewSession(token=token, expires_at=started.expires_at, user=user)


async def _checked(
    database: Database, email: str, password: str, tenant_key: str | None, now: datetime
) -> users.Account:
    """Return the account that the password opens; the work is the same whether there is one, none, or two."""
    async with database.system() as session:
        await throttle.begin(session, email, now=now)
        accounts = await users.accounts(session, email, tenant_key)
    work = users.MAX_ACCOUNTS if tenant_key is None else 1
    hashes = [account.password_hash for account in accounts]
    fits = [await passwords.fits(password, known) for known in [*hashes, None, None][:work]]
    opened = [account for account, fit in zip(accounts, fits, strict=False) if fit]
    if not opened:
        raise _refused()
    async with database.system() as session:
        await throttle.succeeded(session, email, len(opened))
    if len(opened) > 1:
        raise ConflictError(
            "You are in several tenants; name the one to sign in to.",
            errors=[FieldProblem("tenant", "is needed")],
            extra={"tenants": sorted(account.tenant_key for account in opened)},
        )
    return opened[0]


def _refused() -> UnauthorizedError:
    return UnauthorizedError("The email address and the password do not fit.")


def origin_of(request: Request) -> sessions.Origin:
    """Return where a request comes from, as far as it says."""
    ip: str | None = None
    if request.client is not None:
        with suppress(ValueError):
            ip = str(ipaddress.ip_address(request.client.host))
    return sessions.Origin(request.headers.get("user-agent"), ip)


@router.get("", operation_id="sessions.list")
async def list_sessions(signed_in: SignedInDep, session: SessionDep, now: NowDep) -> SessionList:
    """List one's own sessions that are not over, the newest first."""
    return SessionList(
        items=[_shown(row, signed_in.session_id) for row in await sessions.of_user(session, signed_in.user_id, now=now)]
    )


@router.delete("/current", status_code=204)
async def sign_out(signed_in: SignedInDep, session: SessionDep, authenticator: AuthenticatorDep, now: NowDep) -> None:
    """End the session that the request came with."""
    await _end(signed_in.session_id, signed_in, session, authenticator, now)


@router.delete("/{session_id}", status_code=204)
async def end(
    session_id: UUID, signed_in: SignedInDep, session: SessionDep, authenticator: AuthenticatorDep, now: NowDep
) -> None:
    """End a session of one's own: refused by this process at once, by others within ten seconds."""
    await _end(session_id, signed_in, session, authenticator, now)


async def _end(
    session_id: UUID, signed_in: SignedInDep, session: SessionDep, authenticator: AuthenticatorDep, now: datetime
) -> None:
    token_hash = await sessions.end(session, signed_in.user_id, session_id, by=signed_in.actor, now=now)
    refuse_after_commit(session, authenticator, [token_hash], signed_in.user_id)


def _shown(row: UserSession, current: UUID) -> SessionOut:
    return SessionOut(
        id=row.id,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        user_agent=row.user_agent,
        ip=row.ip,
        current=row.id == current,
    )
