"""The log of deliveries: what an endpoint was told, how it answered, and telling it again."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import delete, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from models import WebhookDelivery, WebhookEndpoint
from services.events.webhooks import endpoints, pausing, writing
from services.events.webhooks.sending import TOLD
from services.shared import activity

KEPT: Final = timedelta(days=30)
"""How long a delivery that was made or given up stays in the log."""
PURGE_PAGE: Final = 5_000

Status = Literal["pending", "delivered", "failed"]


async def page(
    session: TenantSession,
    endpoint_id: UUID,
    *,
    status: Status | None,
    event_type: str | None,
    before: tuple[int, UUID] | None,
    limit: int,
) -> Sequence[WebhookDelivery]:
    """Return deliveries of an endpoint, the newest event first, older than `before` (position, id)."""
    row = WebhookDelivery
    query = select(row).where(row.tenant_id == session.tenant_id, row.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(row.status == status)
    if event_type is not None:
        query = query.where(row.event_type == event_type)
    if before is not None:
        query = query.where(tuple_(row.position, row.id) < before)
    return (await session.scalars(query.order_by(row.position.desc(), row.id.desc()).limit(limit))).all()


async def get(session: TenantSession, delivery_id: UUID) -> WebhookDelivery:
    """Return a delivery.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    found = await session.get(WebhookDelivery, (session.tenant_id, delivery_id), populate_existing=True)
    if found is None:
        raise NotFoundError(f"there is no delivery {delivery_id}")
    return found


async def told(session: TenantSession, delivery: WebhookDelivery) -> dict[str, Any]:
    """Return what the endpoint is told by a delivery: one message, as it stands alone or in a batch."""
    found = await session.scalar(_TOLD, {"tenant": session.tenant_id, "id": delivery.id})
    return json.loads(found)


_TOLD: Final = text(f"SELECT {TOLD} WHERE d.tenant_id = :tenant AND d.id = :id")


async def replay(session: TenantSession, delivery_id: UUID, *, by: Actor) -> WebhookDelivery:
    """Make a delivery once more, under its id; one that waits for a retry is made at once.

    Raises:
        NotFoundError: the tenant has none of that id.
        ConflictError: the endpoint is paused.
    """
    delivery = await get(session, delivery_id)
    endpoint = await endpoints.get(session, delivery.endpoint_id, lock=True)
    _check_active(endpoint)
    await session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.tenant_id == session.tenant_id, WebhookDelivery.id == delivery_id)
        .values(status="pending", attempts=0, next_at=func.now(), finished_at=None)
    )
    await _record(session, endpoint, {"delivery": (None, str(delivery_id))}, by)
    await writing.wake(session, [endpoint.id])
    return await get(session, delivery_id)


async def replay_range(
    session: TenantSession, endpoint_id: UUID, *, since: datetime, until: datetime, only_failed: bool, by: Actor
) -> int:
    """Tell all events received in this time once more, in their order; return how many.

    Of those never told before too, where the endpoint wants them; with `only_failed` just those given up.

    Raises:
        NotFoundError: the tenant has none of that id.
        ConflictError: the endpoint is paused.
    """
    endpoint = await endpoints.get(session, endpoint_id, lock=True)
    _check_active(endpoint)
    again = await session.scalar(
        _AGAIN,
        {
            "tenant": session.tenant_id,
            "endpoint": endpoint_id,
            "since": since,
            "until": until,
            "statuses": ["failed"] if only_failed else ["failed", "delivered"],
        },
    )
    count = again or 0
    if not only_failed:
        count += await pausing.write_missed(session, endpoint, since=since, until=until)
    changes = {"since": (None, since.isoformat()), "until": (None, until.isoformat()), "deliveries": (None, count)}
    await _record(session, endpoint, changes, by)
    await writing.wake(session, [endpoint_id])
    return count


_AGAIN: Final = text("""
    WITH again AS (
    UPDATE webhook_delivery d SET status = 'pending', attempts = 0, next_at = now(), finished_at = NULL
    FROM event e
    WHERE d.tenant_id = :tenant AND d.endpoint_id = :endpoint AND d.status = ANY(CAST(:statuses AS text[]))
      AND e.tenant_id = :tenant AND e.id = d.event_id AND e.received_at BETWEEN :since AND :until
    RETURNING d.id
    )
    SELECT count(*) FROM again
""")


def _check_active(endpoint: WebhookEndpoint) -> None:
    if endpoint.status == "paused":
        raise ConflictError("the endpoint is paused: resume it first")


async def _record(session: TenantSession, endpoint: WebhookEndpoint, changes: activity.Changes, by: Actor) -> None:
    await activity.record(
        session, by=by, subject_type="webhook", subject_id=endpoint.id, type="webhook.replayed", changes=changes
    )


async def purge(session: AsyncSession) -> int:
    """Delete a page of deliveries of all tenants that ended long ago; return how many. Needs the system's session."""
    old = (
        select(WebhookDelivery.tenant_id, WebhookDelivery.id)
        .where(WebhookDelivery.finished_at < func.now() - KEPT)
        .limit(PURGE_PAGE)
        .subquery()
    )
    gone = await session.execute(
        delete(WebhookDelivery)
        .where(WebhookDelivery.tenant_id == old.c.tenant_id, WebhookDelivery.id == old.c.id)
        .returning(WebhookDelivery.id)
    )
    return len(gone.all())
