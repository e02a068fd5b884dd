"""The unified log: what the sender sent and what was logged beside, merged as it is read, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.types import DateTime, Uuid

from core.database import TenantSession
from core.errors import NotFoundError
from services.identity import aliases, people
from services.identity.timeline import START, message_bound

MESSAGE_CHANNELS: Final = frozenset({"email", "sms", "push", "social"})

_LOGGED: Final = """
    SELECT 'communication' AS kind, c.id, c.occurred_at AS at, c.channel, c.direction, c.person_id, c.organization_id,
           c.deal_id,
           c.thread_id, c.subject, c.body, c.outcome, c.duration_seconds, c.external_id, c.message_id AS in_reply_to,
           c.details, c.created_by, CAST(NULL AS jsonb) AS message
    FROM communication c
    WHERE c.tenant_id = :tenant
"""
# A message's time is the one in its id, as its index is ordered by that.
_SENT: Final = """
    SELECT 'message', m.id,
           'epoch'::timestamptz + ('x' || translate(left(m.id::text, 13), '-', ''))::bit(48)::bigint * interval '1 ms'
             AS at,
           m.channel, 'out', m.person_id, CAST(NULL AS uuid), CAST(NULL AS uuid), m.id, v.subject, NULL, NULL,
           CAST(NULL AS integer), NULL, CAST(NULL AS uuid), CAST('{}' AS jsonb), NULL,
           jsonb_build_object('status', m.status, 'reason', m.reason, 'address', m.address, 'sent_at', m.sent_at,
                              'opens', m.opens, 'clicks', m.clicks, 'campaign_id', m.campaign_id,
                              'enrollment_id', m.enrollment_id, 'template', t.key, 'template_version', v.number)
    FROM message m
    LEFT JOIN template_version v ON v.tenant_id = m.tenant_id AND v.id = m.template_version_id
    LEFT JOIN template t ON t.tenant_id = v.tenant_id AND t.id = v.template_id
    WHERE m.tenant_id = :tenant AND m.status <> 'excluded'
"""
_TYPES: Final = {
    "person": Uuid,
    "organization": Uuid,
    "deal": Uuid,
    "thread": Uuid,
    "id": Uuid,
    "at": DateTime(timezone=True),
}

_ENGAGEMENT: Final = text("""
    SELECT coalesce(m.channel, r.channel) AS channel, coalesce(m.sent, 0) AS sent, coalesce(m.opened, 0) AS opened,
           coalesce(m.opens, 0) AS opens, coalesce(m.clicked, 0) AS clicked, coalesce(m.clicks, 0) AS clicks,
           coalesce(r.replies, 0) AS replies, m.last_sent_at, m.last_opened_at, m.last_clicked_at, r.last_reply_at
    FROM (SELECT channel, count(sent_at) AS sent, count(opened_at) AS opened, sum(opens)::bigint AS opens,
                 count(clicked_at) AS clicked, sum(clicks)::bigint AS clicks, max(sent_at) AS last_sent_at,
                 max(opened_at) AS last_opened_at, max(clicked_at) AS last_clicked_at
          FROM message WHERE tenant_id = :tenant AND person_id = :person AND status <> 'excluded'
          GROUP BY channel) m
    FULL JOIN (SELECT channel, count(*) AS replies, max(occurred_at) AS last_reply_at
               FROM communication
               WHERE tenant_id = :tenant AND person_id = :person AND direction = 'in' AND message_id IS NOT NULL
               GROUP BY channel) r ON r.channel = m.channel
    ORDER BY 1
""").bindparams(bindparam("person", type_=Uuid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries; all that is given must hold.

    Messages are there where a person or a thread is asked for: the campaigns of a tenant would drown what people said,
    and an organization has none.
    """

    person_id: UUID | None = None
    organization_id: UUID | None = None
    deal_id: UUID | None = None
    thread_id: UUID | None = None
    channel: str | None = None
    direction: str | None = None


async def page(
    session: TenantSession, wanted: Filter, *, limit: int, before: tuple[datetime, UUID] = START
) -> Sequence[RowMapping]:
    """Return up to `limit` entries, newest first, older than the one whose time and id are `before`; one statement."""
    at, entry_id = before
    values: dict[str, Any] = {"tenant": session.tenant_id, "at": at, "id": entry_id, "limit": limit}
    logged, sent = _LOGGED + " AND (c.occurred_at, c.id) < (:at, :id)", _SENT + " AND m.id < :bound"
    if wanted.person_id is not None:
        values["person"] = await aliases.living(session, wanted.person_id)
        logged, sent = f"{logged} AND c.person_id = :person", f"{sent} AND m.person_id = :person"
    if wanted.organization_id is not None:
        values["organization"] = wanted.organization_id
        logged += " AND c.organization_id = :organization"
    if wanted.deal_id is not None:
        values["deal"] = wanted.deal_id
        logged += " AND c.deal_id = :deal"
    if wanted.thread_id is not None:
        values["thread"] = wanted.thread_id
        logged, sent = f"{logged} AND c.thread_id = :thread", f"{sent} AND m.id = :thread"
    if wanted.channel is not None:
        values["channel"] = wanted.channel
        logged, sent = f"{logged} AND c.channel = :channel", f"{sent} AND m.channel = :channel"
    if wanted.direction is not None:
        values["direction"] = wanted.direction
        logged += " AND c.direction = :direction"
    parts = [f"({logged} ORDER BY c.occurred_at DESC, c.id DESC LIMIT :limit)"]
    if _with_messages(wanted):
        values["bound"] = message_bound(at, entry_id)
        parts.append(f"({sent} ORDER BY m.id DESC LIMIT :limit)")
    statement = text(
        f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS entry ORDER BY at DESC, id DESC LIMIT :limit"  # noqa: S608 - constants of ours
    )
    rows = await session.execute(_typed(statement, values), values)
    return rows.mappings().all()


def _with_messages(wanted: Filter) -> bool:
    return (
        (wanted.person_id is not None or wanted.thread_id is not None)
        and wanted.organization_id is None
        and wanted.deal_id is None
        and wanted.direction != "in"
        and (wanted.channel is None or wanted.channel in MESSAGE_CHANNELS)
    )


async def thread(
    session: TenantSession, thread_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[RowMapping]:
    """Return up to `limit` entries of a thread, oldest first, later than the one whose time and id are `after`.

    Raises:
        NotFoundError: no such thread in this tenant.
    """
    values: dict[str, Any] = {"tenant": session.tenant_id, "thread": thread_id, "limit": limit}
    later = ""
    if after is not None:
        values["at"], values["id"] = after
        later = " WHERE (at, id) > (:at, :id)"
    statement = text(
        f"SELECT * FROM ({_LOGGED} AND c.thread_id = :thread UNION ALL {_SENT} AND m.id = :thread) AS entry{later}"  # noqa: S608 - constants of ours
        " ORDER BY at, id LIMIT :limit"
    )
    rows = (await session.execute(_typed(statement, values), values)).mappings().all()
    if not rows and after is None:
        raise NotFoundError("No such thread.")
    return rows


async def entry(session: TenantSession, communication_id: UUID) -> RowMapping:
    """Return one that was logged, as the log shows it.

    Raises:
        NotFoundError: no such communication in this tenant.
    """
    values = {"tenant": session.tenant_id, "id": communication_id}
    rows = await session.execute(_typed(text(_LOGGED + " AND c.id = :id"), values), values)
    found = rows.mappings().one_or_none()
    if found is None:
        raise NotFoundError("No such communication.")
    return found


async def engagement(session: TenantSession, person_id: UUID) -> Sequence[RowMapping]:
    """Return how the person takes what we send, by channel: messages sent, opened and clicked, and answers.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    person = await people.get(session, person_id)
    rows = await session.execute(_ENGAGEMENT, {"tenant": session.tenant_id, "person": person.id})
    return rows.mappings().all()


def _typed(statement: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401 - SQLAlchemy's text
    return statement.bindparams(*(bindparam(name, type_=kind) for name, kind in _TYPES.items() if name in values))
