"""Sessions of people who signed in. The token is shown once and only its hash kept, as with API keys."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from core.ids import new_id
from models import UserAccount, UserSession
from services.shared import activity
from services.tenancy import roles
from services.tenancy.api_keys import SECRET_BYTES, Credential, hash_of

PREFIX: Final = "tl_sess_"
IDLE: Final = timedelta(hours=12)
"""A session that is not used so long is over."""
LONGEST: Final = timedelta(days=30)
"""It is over then in any case."""
TOUCHED: Final = timedelta(minutes=1)
"""Its use is written at most so often."""
PURGE_PAGE: Final = 5_000
_MAX_USER_AGENT: Final = 300


@dataclass(frozen=True, slots=True)
class Origin:
    """Where somebody signed in from, for them to recognise a session by."""

    user_agent: str | None
    ip: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A session that is not over."""

    credential: Credential
    expires_at: datetime
    last_used_at: datetime
    created_at: datetime


async def start(
    session: TenantSession, user_id: UUID, origin: Origin, *, by: Actor, now: datetime
) -> tuple[UserSession, str]:
    """Begin a session of somebody whose password fitted; return its row and its token.

    Raises:
        NotFoundError: the user was disabled meanwhile.
    """
    signed_in = await session.scalar(
        update(UserAccount)
        .where(UserAccount.tenant_id == session.tenant_id, UserAccount.id == user_id, UserAccount.disabled_at.is_(None))
        .values(last_sign_in_at=now)
        .returning(UserAccount.id)
    )
    if signed_in is None:
        raise NotFoundError("There is no such user.")
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = UserSession(
        tenant_id=session.tenant_id,
        id=new_id(),
        user_id=user_id,
        token_hash=hash_of(token),
        created_at=now,
        last_used_at=now,
        expires_at=now + IDLE,
        user_agent=origin.user_agent and origin.user_agent[:_MAX_USER_AGENT],
        ip=origin.ip,
    )
    session.add(row)
    await session.flush()
    await activity.record(
        session,
        by=by,
        subject_type="user",
        subject_id=user_id,
        type="user.signed_in",
        changes={"session_id": (None, str(row.id))},
    )
    return row, token


async def find(session: AsyncSession, token_hash: bytes, *, now: datetime) -> Found | None:
    """Return the session behind a token that is not over, of a user who is not disabled; needs tl_system."""
    statement = (
        select(
            UserSession.tenant_id,
            UserSession.id,
            UserSession.user_id,
            UserSession.expires_at,
            UserSession.last_used_at,
            UserSession.created_at,
            UserAccount.role,
        )
        .join(UserAccount, (UserAccount.tenant_id == UserSession.tenant_id) & (UserAccount.id == UserSession.user_id))
        .where(
            UserSession.token_hash == token_hash,
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
            UserAccount.disabled_at.is_(None),
        )
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    credential = Credential(
        row.tenant_id, roles.SCOPES_OF[row.role], user_id=row.user_id, session_id=row.id, role=row.role
    )
    return Found(credential, row.expires_at, row.last_used_at, row.created_at)


async def touch(session: TenantSession, found: Found, *, now: datetime) -> datetime:
    """Note that a session is used, which puts off its end; return that. Call it where `last_used_at` is old."""
    expires_at = min(now + IDLE, found.created_at + LONGEST)
    await session.execute(
        update(UserSession)
        .where(
            UserSession.tenant_id == session.tenant_id,
            UserSession.id == found.credential.session_id,
            UserSession.last_used_at < now,
        )
        .values(last_used_at=now, expires_at=expires_at)
    )
    return expires_at


async def of_user(session: TenantSession, user_id: UUID, *, now: datetime) -> Sequence[UserSession]:
    """Return a user's sessions that are not over, the newest first."""
    statement = (
        select(UserSession)
        .where(
            UserSession.tenant_id == session.tenant_id,
            UserSession.user_id == user_id,
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
        )
        .order_by(UserSession.id.desc())
    )
    return (await session.scalars(statement)).all()


async def end(session: TenantSession, user_id: UUID, session_id: UUID, *, by: Actor, now: datetime) -> bytes:
    """End a session of a user for good and return its hash, so that caches can drop it. Twice changes nothing.

    Raises:
        NotFoundError: the user has no such session.
    """
    statement = select(UserSession).where(
        UserSession.tenant_id == session.tenant_id, UserSession.id == session_id, UserSession.user_id == user_id
    )
    row = await session.scalar(statement.with_for_update())
    if row is None:
        raise NotFoundError("There is no such session.")
    if row.revoked_at is None:
        row.revoked_at = now
        await session.flush()
        await activity.record(
            session,
            by=by,
            subject_type="user",
            subject_id=user_id,
            type="user.signed_out",
            changes={"session_id": (str(row.id), None)},
        )
    return row.token_hash


async def end_all(session: TenantSession, user_id: UUID, *, now: datetime, but: UUID | None = None) -> list[bytes]:
    """End all sessions of a user, or all but one; return their hashes."""
    statement = (
        update(UserSession)
        .where(
            UserSession.tenant_id == session.tenant_id,
            UserSession.user_id == user_id,
            UserSession.revoked_at.is_(None),
        )
        .values(revoked_at=now)
        .returning(UserSession.token_hash)
    )
    if but is not None:
        statement = statement.where(UserSession.id != but)
    return list(await session.scalars(statement))


async def purge(session: AsyncSession) -> int:
    """Delete up to `PURGE_PAGE` sessions that are over, of all tenants; needs a session of tl_system."""
    key = (UserSession.tenant_id, UserSession.id)
    old = select(*key).where(UserSession.expires_at <= func.now()).limit(PURGE_PAGE)
    statement = delete(UserSession).where(tuple_(*key).in_(old)).returning(UserSession.id)
    return len((await session.execute(statement)).all())
