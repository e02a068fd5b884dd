"""Invitations of colleagues. The token is shown once, to who invites, and passed on by them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Invitation, UserAccount
from services.identity import normalize
from services.shared import activity
from services.tenancy import roles, users
from services.tenancy.api_keys import SECRET_BYTES, Credential, hash_of

PREFIX: Final = "tl_join_"
VALID: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Open:
    """An invitation that can be accepted."""

    tenant_id: UUID
    email: str
    name: str | None


async def invite(
    session: TenantSession,
    *,
    email: str,
    role: str,
    name: str | None,
    by: Actor,
    granted: Credential | None,
    now: datetime,
) -> tuple[Invitation, str]:
    """Invite somebody; return the invitation and its token, which cannot be had again.

    An earlier invitation of the same address is replaced.

    Raises:
        InvalidError: the address or name is not acceptable.
        ForbiddenError: `granted` may do less than the role, or than the role of the invitation it would replace.
        ConflictError: the address belongs to a teammate, or is invited by somebody else at this moment.
    """
    email = normalize.email(email)
    roles.check_may_manage(granted, role)
    if await users.by_email(session, email) is not None:
        raise users.taken(email)
    earlier = await session.scalar(
        update(Invitation)
        .where(Invitation.tenant_id == session.tenant_id, Invitation.email == email, Invitation.closed_at.is_(None))
        .values(closed_at=now)
        .returning(Invitation.role)
    )
    if earlier is not None:
        roles.check_may_manage(granted, earlier)
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    invitation = await session.scalar(
        insert(Invitation)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            email=email,
            role=role,
            name=None if name is None else users.checked_name(name),
            token_hash=hash_of(token),
            invited_by=by.name,
            expires_at=now + VALID,
        )
        .on_conflict_do_nothing()
        .returning(Invitation)
    )
    if invitation is None:
        raise ConflictError(
            f"{email} is being invited already.", errors=[FieldProblem("email", "is being invited already")]
        )
    await _log(session, invitation, "created", by, {"email": (None, email), "role": (None, role)})
    return invitation, token


async def page(session: TenantSession, *, limit: int, before: UUID | None = None) -> Sequence[Invitation]:
    """Return up to `limit` invitations made before the one `before`, newest first, closed ones too."""
    statement = select(Invitation).where(Invitation.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(Invitation.id < before)
    return (await session.scalars(statement.order_by(Invitation.id.desc()).limit(limit))).all()


async def revoke(
    session: TenantSession, invitation_id: UUID, *, by: Actor, granted: Credential | None, now: datetime
) -> None:
    """Close an invitation; one that is closed stays as it is.

    Raises:
        NotFoundError: the tenant has no such invitation.
        ForbiddenError: `granted` may do less than the role.
    """
    statement = select(Invitation).where(Invitation.tenant_id == session.tenant_id, Invitation.id == invitation_id)
    invitation = await session.scalar(statement.with_for_update())
    if invitation is None:
        raise NotFoundError("There is no such invitation.")
    roles.check_may_manage(granted, invitation.role)
    if invitation.closed_at is None:
        invitation.closed_at = now
        await session.flush()
        await _log(session, invitation, "revoked", by, {})


async def find(session: AsyncSession, token: str, *, now: datetime) -> Open:
    """Return what a token invites to; needs a session of tl_system.

    Raises:
        NotFoundError: it is no token of ours, or was used, revoked or replaced, or is too old.
    """
    statement = select(Invitation.tenant_id, Invitation.email, Invitation.name).where(
        Invitation.token_hash == hash_of(token), Invitation.closed_at.is_(None), Invitation.expires_at > now
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise _not_open()
    return Open(row.tenant_id, row.email, row.name)


async def accept(
    session: TenantSession, token: str, *, name: str | None, password_hash: str, request_id: str | None, now: datetime
) -> UserAccount:
    """Make the invited person a teammate; of two requests with one token the second is refused.

    Raises:
        NotFoundError: as for `find`.
        InvalidError: there is no name, neither given nor in the invitation.
        ConflictError: somebody with the address became a teammate meanwhile.
    """
    invitation = await session.scalar(
        update(Invitation)
        .where(
            Invitation.tenant_id == session.tenant_id,
            Invitation.token_hash == hash_of(token),
            Invitation.closed_at.is_(None),
            Invitation.expires_at > now,
        )
        .values(accepted_at=now, closed_at=now)
        .returning(Invitation)
    )
    if invitation is None:
        raise _not_open()
    name = name or invitation.name
    if name is None:
        raise InvalidError.of("name", "is required")
    user = await users.create(
        session,
        email=invitation.email,
        name=name,
        role=invitation.role,
        password_hash=password_hash,
        by=Actor(invitation.invited_by, request_id),
    )
    await _log(session, invitation, "accepted", Actor.user(user.id, request_id), {"user_id": (None, str(user.id))})
    return user


def _not_open() -> NotFoundError:
    return NotFoundError("This invitation is not open: it was used, revoked or replaced, or is too old.")


async def _log(
    session: TenantSession, invitation: Invitation, verb: str, by: Actor, changes: dict[str, tuple[str | None, str]]
) -> None:
    await activity.record(
        session,
        by=by,
        subject_type="invitation",
        subject_id=invitation.id,
        type=f"invitation.{verb}",
        changes=changes,
    )
