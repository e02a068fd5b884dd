"""What happened to an organization, newest first: changes, what was said, deals and orders, merged as it is read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.types import DateTime, Uuid

from core.database import TenantSession
from services.identity import organizations
from services.identity.timeline import START, message_bound

# Each part reads the newest rows off an index, so a page costs the same at any length of history. The time of a deal
# or an order is the one in its id, as their indexes are ordered by that.
_AT: Final = """
            'epoch'::timestamptz + ('x' || translate(left({id}::text, 13), '-', ''))::bit(48)::bigint * interval '1 ms'
"""
_PAGE: Final = text(f"""
    (SELECT 'activity' AS kind, a.id, a.at, a.type,
            jsonb_build_object('actor', a.actor, 'changes', a.changes, 'request_id', a.request_id) AS detail
     FROM activity a
     WHERE a.tenant_id = :tenant AND a.subject_type = 'organization' AND a.subject_id = :organization
       AND (a.at, a.id) < (:at, :id)
     ORDER BY a.at DESC, a.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'communication', c.id, c.occurred_at, 'communication',
            jsonb_build_object('communication_id', c.id, 'channel', c.channel, 'direction', c.direction,
                               'person_id', c.person_id, 'deal_id', c.deal_id, 'subject', c.subject,
                               'outcome', c.outcome, 'duration_seconds', c.duration_seconds, 'thread_id', c.thread_id)
     FROM marketing_communication_facts c
     WHERE c.tenant_id = :tenant AND c.organization_id = :organization AND (c.occurred_at, c.id) < (:at, :id)
     ORDER BY c.occurred_at DESC, c.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'deal', d.id, {_AT.format(id="d.id")}, 'deal',
            jsonb_build_object('deal_id', d.id, 'title', d.title, 'status', d.status, 'pipeline', d.pipeline_key,
                               'stage', d.stage_key, 'amount_minor', d.amount_minor, 'currency', d.currency,
                               'person_id', d.person_id, 'closed_at', d.closed_at)
     FROM crm_deal_facts d
     WHERE d.tenant_id = :tenant AND d.organization_id = :organization AND d.id < :bound
     ORDER BY d.id DESC LIMIT :limit)
    UNION ALL
    (SELECT 'order', o.id, {_AT.format(id="o.id")}, 'order',
            jsonb_build_object('order_id', o.id, 'number', o.number, 'status', o.status,
                               'payment_status', o.payment_status, 'fulfilment_status', o.fulfilment_status,
                               'total_minor', o.total_minor, 'refunded_minor', o.refunded_minor,
                               'currency', o.currency, 'person_id', o.person_id, 'placed_at', o.placed_at)
     FROM commerce_orders o
     WHERE o.tenant_id = :tenant AND o.organization_id = :organization AND o.id < :bound
     ORDER BY o.id DESC LIMIT :limit)
    ORDER BY at DESC, id DESC LIMIT :limit
""").bindparams(  # noqa: S608 - a statement of our own
    bindparam("organization", type_=Uuid),
    bindparam("id", type_=Uuid),
    bindparam("bound", type_=Uuid),
    bindparam("at", type_=DateTime(timezone=True)),
)


async def page(
    session: TenantSession, organization_id: UUID, *, limit: int, before: tuple[datetime, UUID] = START
) -> Sequence[RowMapping]:
    """Return up to `limit` entries, newest first, older than the one whose time and id are `before`.

    Raises:
        NotFoundError: no such organization in this tenant.
    """
    await organizations.get(session, organization_id)
    at, entry_id = before
    values = {"tenant": session.tenant_id, "organization": organization_id, "at": at, "id": entry_id, "limit": limit}
    rows = await session.execute(_PAGE, values | {"bound": message_bound(at, entry_id)})
    return rows.mappings().all()
