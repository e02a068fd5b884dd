"""What happened to a person, newest first: events, changes, messages, communications and journeys, merged."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.events import (
    ASSOCIATION_CREATED,
    ASSOCIATION_DELETED,
    COMMUNICATION_DELETED,
    COMMUNICATION_LOGGED,
    COMMUNICATION_UPDATED,
    PERSON_CREATED,
    PERSON_MERGED,
    PERSON_ORDERS_CHANGED,
    PERSON_SEEN,
    PERSON_SUBSCRIBED,
    PERSON_UNMERGED,
    PERSON_UNSUBSCRIBED,
    PERSON_UPDATED,
)
from core.database import TenantSession

# The activity log tells the same, with what was before and who did it; or the events that these follow do.
TOLD_BY_ACTIVITY: Final = [
    PERSON_ORDERS_CHANGED,
    PERSON_SEEN,
    PERSON_CREATED,
    PERSON_UPDATED,
    PERSON_SUBSCRIBED,
    PERSON_UNSUBSCRIBED,
    PERSON_MERGED,
    PERSON_UNMERGED,
    ASSOCIATION_CREATED,
    ASSOCIATION_DELETED,
    # what was said is an entry of its own
    COMMUNICATION_LOGGED,
    COMMUNICATION_UPDATED,
    COMMUNICATION_DELETED,
]

# The log keeps naming people by the ids they had before a merge, so it is read by each of those.
# Each part reads the newest rows off an index, so a page costs the same at any length of history. The exception are
# journeys, whose index serves entry rules: a person has few. A message's time is the one in its id, as its index
# is ordered by that.
PAGE: Final = """
    (SELECT 'event' AS kind, e.id, e.occurred_at AS at, e.type,
            jsonb_build_object('properties', e.properties) AS detail
     FROM event e
     WHERE e.tenant_id = :tenant AND e.person_id = :person AND (e.occurred_at, e.id) < (:at, :id)
       AND e.type <> ALL(:told)
     ORDER BY e.occurred_at DESC, e.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'activity', a.id, a.at, a.type,
            jsonb_build_object('actor', a.actor, 'changes', a.changes, 'request_id', a.request_id)
     FROM (SELECT :person AS id
           UNION ALL SELECT id FROM person_alias WHERE tenant_id = :tenant AND person_id = :person) was
     CROSS JOIN LATERAL (
       SELECT * FROM activity a
       WHERE a.tenant_id = :tenant AND a.subject_type = 'person' AND a.subject_id = was.id
         AND (a.at, a.id) < (:at, :id)
       ORDER BY a.at DESC, a.id DESC LIMIT :limit) a)
    UNION ALL
    (SELECT 'message', m.id,
            'epoch'::timestamptz + ('x' || translate(left(m.id::text, 13), '-', ''))::bit(48)::bigint * interval '1 ms',
            'message', jsonb_build_object('message_id', m.id, 'channel', m.channel, 'template', m.template_key,
                               'status', m.status, 'reason', m.reason, 'sent_at', m.sent_at, 'opens', m.opens,
                               'clicks', m.clicks)
     FROM marketing_message_facts m
     WHERE m.tenant_id = :tenant AND m.person_id = :person AND m.id < :message_bound
     ORDER BY m.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'communication', c.id, c.occurred_at, 'communication',
            jsonb_build_object('communication_id', c.id, 'channel', c.channel, 'direction', c.direction,
                               'subject', c.subject, 'outcome', c.outcome, 'duration_seconds', c.duration_seconds,
                               'thread_id', c.thread_id, 'message_id', c.message_id,
                               'organization_id', c.organization_id)
     FROM marketing_communication_facts c
     WHERE c.tenant_id = :tenant AND c.person_id = :person AND (c.occurred_at, c.id) < (:at, :id)
     ORDER BY c.occurred_at DESC, c.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'enrollment', n.id, n.entered_at, 'journey.entered',
            jsonb_build_object('enrollment_id', n.id, 'journey', n.journey_key, 'status', n.status, 'node', n.node,
                               'reason', n.reason, 'ended_at', n.ended_at)
     FROM marketing_enrollment_facts n
     WHERE n.tenant_id = :tenant AND n.subject_type = 'person' AND n.subject_id = :person
       AND (n.entered_at, n.id) < (:at, :id)
     ORDER BY n.entered_at DESC, n.id DESC LIMIT :limit)
    ORDER BY at DESC, id DESC LIMIT :limit
"""
"""The entries older than `(:at, :id)` of whom `:person` names, `:limit` at most; see `page` for the rest."""

_PAGES = text(
    "SELECT about.id AS about, entry.* FROM unnest(:people) AS about(id)"  # noqa: S608 - our own statement
    f" CROSS JOIN LATERAL ({PAGE.replace(':person', 'about.id')}) AS entry"
).bindparams(bindparam("told", type_=ARRAY(Text)), bindparam("people", type_=ARRAY(Uuid)))
_PAGE = text(PAGE).bindparams(bindparam("told", type_=ARRAY(Text)), bindparam("person", type_=Uuid))

START: Final = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
"""The cursor before everything."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    id: UUID
    at: datetime
    kind: str
    """`event`, `activity`, `message`, `communication` or `enrollment`: where it is kept."""
    type: str
    """The event's or activity's type, `message`, `communication` or `journey.entered`."""
    detail: dict[str, Any]


async def page(
    session: TenantSession, person_id: UUID, *, limit: int, before: tuple[datetime, UUID] = START
) -> list[Entry]:
    """Return up to `limit` entries, newest first, older than the one whose time and id are `before`; one statement."""
    values = _values(session, limit, before)
    rows = await session.execute(_PAGE, {**values, "person": person_id})
    return [Entry(row.id, row.at, row.kind, row.type, row.detail) for row in rows]


async def pages(
    session: TenantSession, person_ids: Collection[UUID], limit: int, before: tuple[datetime, UUID] | None
) -> dict[UUID, list[Entry]]:
    """Return by person up to `limit` entries of each, as `page` does; people without any are left out."""
    values = _values(session, limit, before or START)
    found: dict[UUID, list[Entry]] = {}
    for row in await session.execute(_PAGES, {**values, "people": sorted(set(person_ids))}):
        found.setdefault(row.about, []).append(Entry(row.id, row.at, row.kind, row.type, row.detail))
    return found


def _values(session: TenantSession, limit: int, before: tuple[datetime, UUID]) -> dict[str, object]:
    at, entry_id = before
    return {
        "tenant": session.tenant_id,
        "at": at,
        "id": entry_id,
        "message_bound": message_bound(at, entry_id),
        "limit": limit,
        "told": TOLD_BY_ACTIVITY,
    }


def message_bound(at: datetime, entry_id: UUID) -> UUID:
    """Return the id below which a message's, a UUIDv7, is older than `(at, entry_id)`; its time is its millisecond."""
    elapsed = at - datetime(1970, 1, 1, tzinfo=UTC)
    whole, rest = divmod(max(elapsed, timedelta()), timedelta(milliseconds=1))
    lowest = UUID(int=whole << 80)
    next_lowest = UUID(int=(whole + 1) << 80)
    return next_lowest if rest else max(lowest, min(entry_id, next_lowest))
