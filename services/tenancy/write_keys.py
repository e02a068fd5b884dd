"""Write keys: public keys of websites, which can only write what visitors do. Made, listed, revoked and looked up."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from core.ids import new_id
from models import Tenant, WriteKey
from services.shared import activity

PREFIX: Final = "tl_pub_"
KEY_BYTES: Final = 18
"""Enough that nobody meets another's by chance; the key stands in every page, so it is no secret."""
LONGEST: Final = 60


@dataclass(frozen=True, slots=True)
class Website:
    """What a write key stands for."""

    tenant_id: UUID
    key_id: UUID
    allowed_origins: frozenset[str]


async def find(session: AsyncSession, key: str) -> Website | None:
    """Return what a key that is not revoked stands for; needs a session of tl_system."""
    statement = (
        select(WriteKey.tenant_id, WriteKey.id, Tenant.allowed_origins)
        .join(Tenant, Tenant.id == WriteKey.tenant_id)
        .where(WriteKey.key == key, WriteKey.revoked_at.is_(None))
    )
    row = (await session.execute(statement)).one_or_none()
    return Website(row.tenant_id, row.id, frozenset(row.allowed_origins)) if row else None


async def create(session: TenantSession, name: str, *, by: Actor) -> WriteKey:
    """Make a key."""
    key = WriteKey(tenant_id=session.tenant_id, id=new_id(), name=name, key=PREFIX + secrets.token_urlsafe(KEY_BYTES))
    session.add(key)
    await session.flush()
    await session.refresh(key, ["created_at", "revoked_at"])
    await activity.record(
        session,
        by=by,
        subject_type="write_key",
        subject_id=key.id,
        type="write_key.created",
        changes={"name": (None, name), "key": (None, key.key)},
    )
    return key


async def page(session: TenantSession, *, limit: int, before: UUID | None = None) -> Sequence[WriteKey]:
    """Return up to `limit` keys made before the key `before`, newest first, revoked ones too."""
    statement = select(WriteKey).where(WriteKey.tenant_id == session.tenant_id).order_by(WriteKey.id.desc())
    if before is not None:
        statement = statement.where(WriteKey.id < before)
    return (await session.scalars(statement.limit(limit))).all()


async def revoke(session: TenantSession, key_id: UUID, *, by: Actor) -> str:
    """Revoke a key for good and return it, so that caches can drop it. Revoking twice changes nothing.

    Raises:
        NotFoundError: the tenant has no such key.
    """
    statement = select(WriteKey).where(WriteKey.tenant_id == session.tenant_id, WriteKey.id == key_id)
    key = await session.scalar(statement.with_for_update())
    if key is None:
        raise NotFoundError("There is no such write key.")
    if key.revoked_at is None:
        now = datetime.now(UTC)
        key.revoked_at = now
        await activity.record(
            session,
            by=by,
            subject_type="write_key",
            subject_id=key.id,
            type="write_key.revoked",
            changes={"revoked_at": (None, now.isoformat())},
        )
    return key.key
