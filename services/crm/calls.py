"""Calls of others' addresses that journeys owe: written with the step, made by the relay until they are answered.

A call is made at least once; all attempts carry the same id, so that a receiver can tell a repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Interval, Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_ids
from core.wake import CALL_CHANNEL
from models import OutgoingCall
from services.journeys import answering
from services.shared import activity
from services.shared.retrying import verdict

LEASE: Final = timedelta(minutes=1)
"""Who took a call and was not heard of for so long is dead; another takes it. Far above what an answer may take."""

_OWE = text("""
    INSERT INTO outgoing_call (tenant_id, id, url, body, person_id, source_key)
    SELECT :tenant AS tenant_id, c.id, c.url, c.body, c.person_id, c.source_key
    FROM unnest(:ids, :urls, :bodies, :people, :keys) AS c(id, url, body, person_id, source_key)
    ON CONFLICT (tenant_id, source_key) WHERE source_key IS NOT NULL DO NOTHING
    RETURNING 1
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "people")),
    *(bindparam(name, type_=ARRAY(Text)) for name in ("urls", "keys")),
    bindparam("bodies", type_=ARRAY(JSONB)),
)
_TAKE = text("""
    UPDATE outgoing_call c SET next_at = now() + :lease, attempts = c.attempts + 1
    FROM (SELECT tenant_id, id FROM outgoing_call WHERE status = 'pending' AND next_at <= now()
          ORDER BY next_at LIMIT :limit FOR UPDATE SKIP LOCKED) due
    WHERE c.tenant_id = due.tenant_id AND c.id = due.id
    RETURNING c.tenant_id, c.id, c.url, c.body, c.attempts, c.trace
""").bindparams(bindparam("lease", type_=Interval))
# an answer that comes when another has taken the call meanwhile counts all the same, unless it is settled
_SETTLE = text("""
    UPDATE outgoing_call
    SET status = :status, answer = :answer, next_at = now() + :pause,
        finished_at = CASE WHEN :status <> 'pending' THEN now() END
    WHERE tenant_id = :tenant AND id = :id AND status = 'pending'
""").bindparams(bindparam("pause", type_=Interval), bindparam("answer", type_=JSONB), bindparam("status", type_=Text))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to make."""

    url: str
    body: Mapping[str, Any]
    person_id: UUID | None = None
    """Whom the body tells of: the call is forgotten with the person."""
    source_key: str
    """What owes it: the second of a key is not made."""


@dataclass(frozen=True, slots=True)
class DueCall:
    """A call that is to be made now."""

    tenant_id: UUID
    id: UUID
    url: str
    body: Mapping[str, Any]
    attempts: int
    """With this one."""
    trace: str | None = None
    """The span that owes it, where that was traced."""


async def owe(session: TenantSession, wanted: Sequence[NewCall]) -> int:
    """Have calls made once the transaction has committed; return how many were not owed before.

    Their addresses were checked when they were written down.
    """
    if not wanted:
        return 0
    made = await session.scalars(
        _OWE,
        {
            "tenant": session.tenant_id,
            "ids": new_ids(len(wanted)),
            "urls": [new.url for new in wanted],
            "bodies": [dict(new.body) for new in wanted],
            "people": [new.person_id for new in wanted],
            "keys": [new.source_key for new in wanted],
        },
    )
    session.wake_after_commit(CALL_CHANNEL)
    return len(made.all())


async def take(session: AsyncSession, *, limit: int) -> list[DueCall]:
    """Take calls that are due, of all tenants; nobody else does for the time of a lease."""
    rows = await session.execute(_TAKE, {"lease": LEASE, "limit": limit})
    return [DueCall(row.tenant_id, row.id, row.url, row.body, row.attempts, row.trace) for row in rows]


async def settle(session: TenantSession, call: DueCall, answer: Mapping[str, Any]) -> str:
    """Note what came of an attempt; return the call's status.

    Args:
        session: the tenant's.
        call: what was tried.
        answer: `{"status": ..., "body": ...}`, or `{"error": ...}`, and `retry_after` in seconds where asked for.
    """
    status, pause = verdict(answer, call.attempts)
    values = {"tenant": call.tenant_id, "id": call.id, "status": status, "answer": dict(answer), "pause": pause}
    await session.execute(_SETTLE, values)
    if status != "pending":
        await answering.tell(session, call.id)
    return status


async def page(
    session: TenantSession, *, status: str | None, limit: int, before: UUID | None
) -> Sequence[OutgoingCall]:
    """Return up to `limit` calls, newest first, older than `before`."""
    statement = select(OutgoingCall).where(OutgoingCall.tenant_id == session.tenant_id)
    if status is not None:
        statement = statement.where(OutgoingCall.status == status)
    if before is not None:
        statement = statement.where(OutgoingCall.id < before)
    return (await session.scalars(statement.order_by(OutgoingCall.id.desc()).limit(limit))).all()


async def get(session: TenantSession, call_id: UUID) -> OutgoingCall:
    """Return a call.

    Raises:
        NotFoundError: no such call in this tenant.
    """
    found = await session.get(OutgoingCall, (session.tenant_id, call_id), populate_existing=True)
    if found is None:
        raise NotFoundError("No such call.")
    return found


async def retry(session: TenantSession, call_id: UUID, *, by: Actor) -> OutgoingCall:
    """Have a call that was given up made again, with all its attempts.

    Raises:
        NotFoundError: no such call in this tenant.
        ConflictError: it was not given up.
    """
    call = await get(session, call_id)
    again = (
        update(OutgoingCall)
        .where(OutgoingCall.tenant_id == session.tenant_id, OutgoingCall.id == call_id, OutgoingCall.status == "failed")
        .values(status="pending", attempts=0, next_at=func.now(), finished_at=None)
        .returning(OutgoingCall.id)
    )
    if await session.scalar(again) is None:
        raise ConflictError(f"The call is {call.status}: only one that failed can be made again.")
    await activity.record(
        session,
        by=by,
        subject_type="outgoing_call",
        subject_id=call_id,
        type="outgoing_call.retried",
        changes={"status": ("failed", "pending")},
    )
    session.wake_after_commit(CALL_CHANNEL)
    await session.refresh(call)
    return call
