"""What happened to a record, newest first: its changes, and events about it, merged as they are read."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.events import RECORD_CREATED, RECORD_DELETED, RECORD_UPDATED
from core.database import TenantSession

# The activity log tells the same, with what was before and who did it.
_TOLD_BY_ACTIVITY: Final = [RECORD_CREATED, RECORD_UPDATED, RECORD_DELETED]

# Each part reads the newest rows off an index, so a page costs the same at any length of history.
_PAGE: Final = text("""
    (SELECT 'event' AS kind, e.id, e.occurred_at AS at, e.type,
            jsonb_build_object('properties', e.properties) AS detail
     FROM event e
     WHERE e.tenant_id = :tenant AND e.subject_type = 'record' AND e.subject_id = :record
       AND (e.occurred_at, e.id) < (:at, :id) AND e.type <> ALL(:told)
     ORDER BY e.occurred_at DESC, e.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'activity', a.id, a.at, a.type,
            jsonb_build_object('actor', a.actor, 'changes', a.changes, 'request_id', a.request_id)
     FROM activity a
     WHERE a.tenant_id = :tenant AND a.subject_type = 'record' AND a.subject_id = :record
       AND (a.at, a.id) < (:at, :id)
     ORDER BY a.at DESC, a.id DESC LIMIT :limit)
    ORDER BY at DESC, id DESC LIMIT :limit
""").bindparams(bindparam("told", type_=ARRAY(Text)), bindparam("record", type_=Uuid))

START: Final = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
"""The place before everything."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    id: UUID
    at: datetime
    kind: str
    """`event` or `activity`: where it is kept."""
    type: str
    detail: dict[str, Any]


async def page(
    session: TenantSession, record_id: UUID, *, limit: int, before: tuple[datetime, UUID] = START
) -> list[Entry]:
    """Return up to `limit` entries, newest first, older than the one whose time and id are `before`; one statement."""
    at, entry_id = before
    rows = await session.execute(
        _PAGE,
        {
            "tenant": session.tenant_id,
            "record": record_id,
            "at": at,
            "id": entry_id,
            "limit": limit,
            "told": _TOLD_BY_ACTIVITY,
        },
    )
    return [Entry(row.id, row.at, row.kind, row.type, row.detail) for row in rows]
