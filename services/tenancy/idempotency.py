"""Answers kept for requests sent again. See docs/decisions/idempotency.md for why it is done this way."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import IdempotencyKey

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
"""How long an answer is given again; after that the key is free."""
PURGE_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


async def claim(session: TenantSession, key: str, request_hash: bytes) -> Answer | None:
    """Claim a key for the session's transaction and return None, or the answer its first request got.

    The claim ends with the transaction, also when its process dies.

    Raises:
        ConflictError: the first request with this key is still at work.
        InvalidError: the key came with another request.
    """
    locked = await session.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:tenant_id || :key, 7302))"),
        {"tenant_id": str(session.tenant_id), "key": key},
    )
    if not locked:
        raise ConflictError(
            "The first request with this idempotency key is still at work.",
            errors=[FieldProblem(HEADER, "is in use by a request that has not finished")],
        )
    # A statement of its own: its snapshot must be younger than the lock.
    row = (
        await session.execute(
            select(
                IdempotencyKey.request_hash, IdempotencyKey.status, IdempotencyKey.headers, IdempotencyKey.body
            ).where(
                IdempotencyKey.tenant_id == session.tenant_id,
                IdempotencyKey.key == key,
                IdempotencyKey.created_at > func.now() - KEPT,
            )
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise InvalidError.of(HEADER, "was used before, with another request")
    return Answer(row.status, row.headers, row.body)


async def keep(session: TenantSession, key: str, request_hash: bytes, answer: Answer) -> None:
    """Keep the answer of a claimed key; the session's transaction must commit with it."""
    values = {
        "request_hash": request_hash,
        "status": answer.status,
        "headers": answer.headers,
        "body": answer.body,
        "created_at": func.now(),
    }
    statement = insert(IdempotencyKey).values(tenant_id=session.tenant_id, key=key, **values)
    # Only an answer past its time can be in the way.
    await session.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "key"], set_=values))


async def purge(session: AsyncSession) -> int:
    """Delete up to `PURGE_PAGE` answers past their time, of all tenants; needs a session of tl_system."""
    old = (
        select(IdempotencyKey.tenant_id, IdempotencyKey.key)
        .where(IdempotencyKey.created_at <= func.now() - KEPT)
        .limit(PURGE_PAGE)
        .subquery()
    )
    statement = (
        delete(IdempotencyKey)
        .where(IdempotencyKey.tenant_id == old.c.tenant_id, IdempotencyKey.key == old.c.key)
        .returning(IdempotencyKey.key)
    )
    return len((await session.execute(statement)).all())
