"""Orders called off before anything was sent: the pieces are let go, and what was taken is given back."""

from uuid import UUID

from sqlalchemy import func, select

from contracts.events import ORDER_CANCELLED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem
from models import Order, Refund
from services.commerce import order_events, orders, refunds, reserving
from services.events.publish import publish


async def cancel(
    session: TenantSession,
    order_id: UUID,
    *,
    reason: str | None = None,
    refund: bool = True,
    refund_id: UUID | None = None,
    by: Actor,
) -> Refund | None:
    """Cancel an order; a second time it changes nothing.

    Args:
        session: of the tenant.
        order_id: the order.
        reason: for whoever looks at it later.
        refund: whether all that is left of what was taken is given back; an organization's ledger is credited.
        refund_id: what such a refund is known by.
        by: who cancels it.

    Returns:
        The refund, if there is one; while it is pending, the gateway is still to be asked for it.

    Raises:
        NotFoundError: no such order in this tenant.
        ConflictError: a parcel of it was sent.
    """
    order = await orders.locked(session, order_id)
    if order.status == "cancelled":
        return None
    if order.fulfilment_status != "unfulfilled":
        raise ConflictError(
            "A parcel of the order was sent.", errors=[FieldProblem("fulfilment_status", "is not unfulfilled any more")]
        )
    await reserving.release_order(session, order_id)
    for line in await orders.lines_of(session, order_id):
        line.released = line.quantity
    before = order.status
    order.status, order.cancelled_at, order.cancel_reason = "cancelled", func.now(), reason
    orders.touch(order)
    await session.flush()
    await session.refresh(order)
    await orders.record(session, order, ORDER_CANCELLED, {"status": (before, "cancelled")}, by)
    unpaid = order_events.shown(order.total_minor - order.captured_minor, order.currency)
    total = order_events.shown(order.total_minor, order.currency)
    await publish(session, [order_events.event(ORDER_CANCELLED, order, total=total, unpaid=unpaid)])
    if not refund or not await _left(session, order):
        return None
    return await refunds.request(session, order_id, reason=reason, refund_id=refund_id, by=by)


async def _left(session: TenantSession, order: Order) -> int:
    """Return what was taken and is not given back, or about to be."""
    given = await session.scalar(
        select(func.coalesce(func.sum(Refund.amount_minor), 0)).where(
            Refund.tenant_id == session.tenant_id, Refund.order_id == order.id, Refund.status != "failed"
        )
    )
    return order.captured_minor - int(given or 0)
