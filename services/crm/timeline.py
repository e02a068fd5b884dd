"""What happened to a deal, newest first: changes, tasks, and what was said, merged as it is read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, select, text
from sqlalchemy.types import DateTime, Uuid

from core.database import TenantSession
from core.errors import NotFoundError
from models import Deal
from services.identity.timeline import START

# Each part reads the newest rows off an index, so a page costs the same at any length of history.
_PAGE: Final = text("""
    (SELECT 'activity' AS kind, a.id, a.at, a.type,
            jsonb_build_object('actor', a.actor, 'changes', a.changes, 'request_id', a.request_id) AS detail
     FROM activity a
     WHERE a.tenant_id = :tenant AND a.subject_type = 'deal' AND a.subject_id = :deal AND (a.at, a.id) < (:at, :id)
       AND a.type NOT LIKE 'task.%'
     ORDER BY a.at DESC, a.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'task', t.id, t.created_at, 'task',
            jsonb_build_object('task_id', t.id, 'title', t.title, 'task_kind', t.kind, 'status', t.status,
                               'due_at', t.due_at, 'owner_id', t.owner_id, 'closed_at', t.closed_at)
     FROM task t
     WHERE t.tenant_id = :tenant AND t.deal_id = :deal AND (t.created_at, t.id) < (:at, :id)
     ORDER BY t.created_at DESC, t.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'communication', c.id, c.occurred_at, 'communication',
            jsonb_build_object('communication_id', c.id, 'channel', c.channel, 'direction', c.direction,
                               'person_id', c.person_id, 'subject', c.subject, 'body', left(c.body, 1000),
                               'outcome', c.outcome, 'duration_seconds', c.duration_seconds,
                               'created_by', c.created_by)
     FROM marketing_communication_facts c
     WHERE c.tenant_id = :tenant AND c.deal_id = :deal AND (c.occurred_at, c.id) < (:at, :id)
     ORDER BY c.occurred_at DESC, c.id DESC LIMIT :limit)
    ORDER BY at DESC, id DESC LIMIT :limit
""").bindparams(
    bindparam("deal", type_=Uuid), bindparam("id", type_=Uuid), bindparam("at", type_=DateTime(timezone=True))
)


async def page(
    session: TenantSession, deal_id: UUID, *, limit: int, before: tuple[datetime, UUID] = START
) -> Sequence[RowMapping]:
    """Return up to `limit` entries, newest first, older than the one whose time and id are `before`.

    Raises:
        NotFoundError: no such deal in this tenant.
    """
    found = await session.scalar(select(Deal.id).where(Deal.tenant_id == session.tenant_id, Deal.id == deal_id))
    if found is None:
        raise NotFoundError("No such deal.")
    at, entry_id = before
    values = {"tenant": session.tenant_id, "deal": deal_id, "at": at, "id": entry_id, "limit": limit}
    return (await session.execute(_PAGE, values)).mappings().all()
