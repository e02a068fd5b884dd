"""API keys: made, listed, revoked and looked up. The secret is shown once and only its hash kept."""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, ForbiddenError, InvalidError, NotFoundError
from core.ids import new_id
from models import ApiKey
from services.shared import activity
from services.tenancy import withdrawal

PREFIX = "tl_live_"
SECRET_BYTES = 32
"""256 random bits: too many to guess, so a fast hash suffices."""
SHOWN = len(PREFIX) + 4
"""How much of a key is kept in the clear, to recognise it by."""

ALL = "*"
NOUNS = (
    "people",
    "organizations",
    "events",
    "forms",
    "objects",
    "segments",
    "templates",
    "journeys",
    "campaigns",
    "messages",
    "channels",
    "communications",
    "pipelines",
    "deals",
    "products",
    "inventory",
    "carts",
    "discounts",
    "orders",
    "payments",
    "tasks",
    "webhooks",
    "audit",
    "users",
    "tenant",
    "api_keys",
)
SCOPES = (ALL, *(f"{noun}:{verb}" for noun in NOUNS for verb in ("read", "write")))
"""What a key may be allowed."""


@dataclass(frozen=True, slots=True)
class Credential:
    """On whose behalf a request comes, and what it may do: of an API key, or of a user's session."""

    tenant_id: UUID
    scopes: frozenset[str]
    key_id: UUID | None = None
    user_id: UUID | None = None
    session_id: UUID | None = None
    role: str | None = None
    """The user's."""

    def allows(self, scope: str) -> bool:
        """Return whether it has this scope."""
        return scope in self.scopes or ALL in self.scopes

    def covers(self, scopes: Iterable[str]) -> bool:
        """Return whether it has all of these scopes."""
        return all(self.allows(scope) for scope in scopes)


def hash_of(secret: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(secret.encode()).digest()


async def find(session: AsyncSession, secret_hash: bytes) -> Credential | None:
    """Return the credential behind a key that is not revoked; needs a session of tl_system."""
    statement = select(ApiKey.tenant_id, ApiKey.id, ApiKey.scopes).where(
        ApiKey.secret_hash == secret_hash, ApiKey.revoked_at.is_(None)
    )
    row = (await session.execute(statement)).one_or_none()
    return Credential(row.tenant_id, frozenset(row.scopes), key_id=row.id) if row else None


async def create(
    session: TenantSession, name: str, scopes: Iterable[str], *, by: Actor, granted: Credential | None = None
) -> tuple[ApiKey, str]:
    """Make a key and return its row with the secret, which cannot be had again.

    Args:
        session: of the tenant whose key it is.
        name: what people recognise it by.
        scopes: what it allows.
        by: who makes it.
        granted: the credential that makes it, which cannot hand on more than it has.

    Raises:
        InvalidError: a scope is unknown, or there is none.
        ForbiddenError: `granted` lacks one of the scopes.
    """
    wanted = sorted(set(scopes))
    unknown = [FieldProblem("scopes", f"{scope!r} is not a scope") for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        raise InvalidError(
            "scopes: give at least one known scope",
            errors=unknown or [FieldProblem("scopes", "needs at least one scope")],
            extra={"known_scopes": list(SCOPES)},
        )
    if granted is not None:
        lacking = [scope for scope in wanted if not granted.allows(scope)]
        if lacking:
            raise ForbiddenError(
                f"Nobody can grant what they lack: {', '.join(lacking)}.",
                errors=[FieldProblem("scopes", f"your own lack {scope}") for scope in lacking],
            )
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey(
        tenant_id=session.tenant_id,
        id=new_id(),
        name=name,
        prefix=secret[:SHOWN],
        secret_hash=hash_of(secret),
        scopes=wanted,
    )
    session.add(key)
    await session.flush()
    await session.refresh(key, ["created_at"])
    await activity.record(
        session,
        by=by,
        subject_type="api_key",
        subject_id=key.id,
        type="api_key.created",
        changes={"name": (None, name), "scopes": (None, wanted)},
    )
    return key, secret


async def list_keys(session: TenantSession, *, limit: int, before: UUID | None = None) -> Sequence[ApiKey]:
    """Return up to `limit` keys made before the key `before`, newest first, revoked ones too."""
    statement = select(ApiKey).where(ApiKey.tenant_id == session.tenant_id).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(ApiKey.id < before)
    return (await session.scalars(statement)).all()


async def revoke(session: TenantSession, key_id: UUID, *, by: Actor) -> bytes:
    """Revoke a key for good and return its hash, so that caches can drop it. Revoking twice changes nothing.

    The open invitations that were sent with it are closed.

    Raises:
        NotFoundError: the tenant has no such key.
    """
    statement = select(ApiKey).where(ApiKey.tenant_id == session.tenant_id, ApiKey.id == key_id).with_for_update()
    key = await session.scalar(statement)
    if key is None:
        raise NotFoundError("There is no such API key.")
    if key.revoked_at is None:
        now = datetime.now(UTC)
        key.revoked_at = now
        await activity.record(
            session,
            by=by,
            subject_type="api_key",
            subject_id=key.id,
            type="api_key.revoked",
            changes={"revoked_at": (None, now.isoformat())},
        )
        await withdrawal.withdraw(session, Actor.api_key(key.id, None).name, now=now)
    return key.secret_hash
