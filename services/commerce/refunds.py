"""Money given back of orders: never more than was taken, whoever asks at the same moment.

A refund is asked for under the order's lock and counts from then on. What the gateway says of it settles it, once;
with it go the order's totals, the pieces that came back, and the event. An organization's ledger is credited at once.

Locks are taken in this order: order, refund, payment, reservations, levels of stock, organization.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, or_, select

from contracts.events import ORDER_REFUND_FAILED, ORDER_REFUNDED
from core import currency as currencies
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from integrations.payments.port import GivenBack
from models import Order, OrderLine, Payment, Refund
from services.commerce import fulfilments, on_account, order_events, orders, payments, returning
from services.commerce.payments import MAX_WORDS
from services.events.publish import publish

MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class ReturnedPieces:
    """Some pieces of a line that are given back."""

    line_id: UUID
    quantity: int
    restock: bool = False
    """Whether they lie on a shelf again; only what was sent can."""


async def request(
    session: TenantSession,
    order_id: UUID,
    *,
    amount_minor: int | None = None,
    lines: Sequence[ReturnedPieces] = (),
    reason: str | None = None,
    refund_id: UUID | None = None,
    by: Actor,
) -> Refund:
    """Ask for money back; `pending` until the gateway was asked, except of an order on account.

    Args:
        session: of the tenant.
        order_id: the order.
        amount_minor: how much; None: what was paid for `lines`, or all that is left where there are none.
        lines: the pieces it is about.
        reason: for whoever looks at it later.
        refund_id: the same again is the same refund.
        by: who asks.

    Raises:
        NotFoundError: no such order.
        InvalidError: a line is not the order's, or more pieces are named than can come back.
        ConflictError: it is more than is left of what was taken.
    """
    order = await orders.locked(session, order_id)
    if refund_id is not None:
        known = await _find(session, refund_id)
        if known is not None:
            return known
    before = await _of_order(session, order_id)
    left = order.captured_minor - sum(one.amount_minor for one in before if one.status != "failed")
    of_lines = returning.check(lines, await orders.lines_of(session, order_id), before)
    wanted = amount_minor if amount_minor is not None else of_lines if lines else left
    _check_amount(order, wanted, left)
    payment = await _payment(session, order, wanted, before)
    refund = Refund(
        tenant_id=session.tenant_id,
        id=refund_id or new_id(),
        order_id=order_id,
        payment_id=None if payment is None else payment.id,
        amount_minor=wanted,
        currency=order.currency,
        reason=reason,
        lines=[{"line_id": str(one.line_id), "quantity": one.quantity, "restock": one.restock} for one in lines],
        actor=by.name,
    )
    session.add(refund)
    await session.flush()
    changes: dict[str, tuple[object, object]] = {"refund_id": (None, str(refund.id)), "amount": (None, _shown(refund))}
    await orders.record(session, order, "order.refund_requested", changes, by)
    if payment is None:
        await on_account.credit(session, order, refund_id=refund.id, amount_minor=wanted, by=by)
        await _succeed(session, order, refund, None, by=by)
    await session.refresh(refund)
    return refund


async def settle(session: TenantSession, refund_id: UUID, said: GivenBack, *, by: Actor) -> Refund:
    """Note what the gateway says of a refund; return what is true now. What succeeded stays so, whatever is said later.

    Raises:
        NotFoundError: no such refund.
        ConflictError: more would be given back than was taken.
    """
    order, refund = await _locked(session, refund_id)
    if refund.status == "succeeded":
        if said.status == "failed" and refund.failure is None:
            refund.failure = {"code": "failed_later", "message": (said.reason or "")[:MAX_WORDS]}
            await _touched(session, refund)
        return refund
    refund.gateway_id = refund.gateway_id or said.gateway_id
    if said.status == "failed":
        return await _failed(session, order, refund, "failed", said.reason or "", by=by)
    if said.status == "pending":
        await _touched(session, refund)
        return refund
    payment = None if refund.payment_id is None else await payments.get(session, refund.payment_id, lock=True)
    await _succeed(session, order, refund, payment, by=by)
    await session.refresh(refund)
    return refund


async def refused(session: TenantSession, refund_id: UUID, *, code: str, message: str, by: Actor) -> Refund:
    """Note that the gateway will not give it back; return what is true now.

    Raises:
        NotFoundError: no such refund.
    """
    order, refund = await _locked(session, refund_id)
    return await _failed(session, order, refund, code, message, by=by) if refund.status == "pending" else refund


async def waits(session: TenantSession, refund_id: UUID) -> Refund:
    """Note that the gateway was asked and did not answer, so that others have their turn first."""
    _, refund = await _locked(session, refund_id)
    await _touched(session, refund)
    return refund


async def get(session: TenantSession, refund_id: UUID) -> Refund:
    """Return a refund.

    Raises:
        NotFoundError: no such refund in this tenant.
    """
    refund = await _find(session, refund_id)
    if refund is None:
        raise NotFoundError("No such refund.")
    return refund


async def page(
    session: TenantSession, order_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None
) -> Sequence[Refund]:
    """Return up to `limit` refunds of an order, the last first, those before the time and id of `before` only."""
    statement = select(Refund).where(Refund.tenant_id == session.tenant_id, Refund.order_id == order_id)
    if before is not None:
        at, refund_id = before
        statement = statement.where(Refund.created_at <= at, or_(Refund.created_at < at, Refund.id < refund_id))
    # not by id alone: one that a request was claimed for has the claim's
    return (await session.scalars(statement.order_by(Refund.created_at.desc(), Refund.id.desc()).limit(limit))).all()


async def _find(session: TenantSession, refund_id: UUID) -> Refund | None:
    return await session.get(Refund, (session.tenant_id, refund_id), populate_existing=True)


async def _of_order(session: TenantSession, order_id: UUID) -> Sequence[Refund]:
    rows = await session.scalars(
        select(Refund)
        .where(Refund.tenant_id == session.tenant_id, Refund.order_id == order_id)
        .order_by(Refund.id)
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def _locked(session: TenantSession, refund_id: UUID) -> tuple[Order, Refund]:
    """Return a refund and its order, held; the order first, as everywhere."""
    refund = await get(session, refund_id)
    order = await orders.locked(session, refund.order_id)
    await session.refresh(refund, with_for_update=True)
    return order, refund


def _check_amount(order: Order, wanted: int, left: int) -> None:
    if left <= 0:
        raise ConflictError("Nothing is left to give back.", errors=[FieldProblem("amount", "nothing is left")])
    if wanted <= 0:
        raise InvalidError.of("amount", "must be more than zero")
    if wanted > left:
        rest = f"{currencies.from_minor(left, order.currency)} {order.currency}"
        raise ConflictError(
            f"Only {rest} can be given back.", errors=[FieldProblem("amount", f"is more than the {rest} left")]
        )


async def _payment(session: TenantSession, order: Order, wanted: int, before: Sequence[Refund]) -> Payment | None:
    """Return the payment to give it back by; None of an order on account."""
    rows = await session.scalars(
        select(Payment)
        .where(Payment.tenant_id == session.tenant_id, Payment.order_id == order.id, Payment.status == "captured")
        .order_by(Payment.id)
    )
    paid = rows.all()
    given: Counter[UUID | None] = Counter()
    for one in before:
        given[one.payment_id] += 0 if one.status == "failed" else one.amount_minor
    for payment in paid:
        if payment.captured_minor - given[payment.id] >= wanted:
            return payment
    if paid or order.organization_id is None:
        raise ConflictError("No one payment of the order has as much left.")
    return None


async def _succeed(session: TenantSession, order: Order, refund: Refund, payment: Payment | None, *, by: Actor) -> None:
    given = order.refunded_minor + refund.amount_minor
    if given > order.captured_minor:
        raise ConflictError("More would be given back than was taken.")
    before = order.payment_status
    refund.status, refund.failure, refund.updated_at = "succeeded", None, func.clock_timestamp()
    order.refunded_minor = given
    order.payment_status = "refunded" if given == order.captured_minor else "partly_refunded"
    order.version += 1
    order.updated_at = func.now()
    if payment is not None:
        payment.refunded_minor += refund.amount_minor
        payment.updated_at = func.clock_timestamp()
    lines = {line.id: line for line in await orders.lines_of(session, order.id)} if refund.lines else {}
    pieces: list[tuple[OrderLine, int]] = []
    for one in refund.lines:
        line = lines[UUID(one["line_id"])]
        line.returned += one["quantity"]
        pieces.append((line, one["quantity"]))
    await session.flush()
    await session.refresh(order)
    await returning.restock(session, refund, lines, by=by)
    await fulfilments.let_go(session, order, returning.kept_back(refund), by=by)
    changes: dict[str, tuple[object, object]] = {
        "refund_id": (None, str(refund.id)),
        "refunded": (_money(order, given - refund.amount_minor), _money(order, given)),
        "payment_status": (before, order.payment_status),
    }
    await orders.record(session, order, ORDER_REFUNDED, changes, by)
    total = order_events.shown(refund.amount_minor, order.currency)
    told = order_events.items(order, pieces)
    await publish(
        session, [order_events.event(ORDER_REFUNDED, order, refund_id=str(refund.id), total=total, items=told)]
    )


async def _failed(
    session: TenantSession, order: Order, refund: Refund, code: str, message: str, *, by: Actor
) -> Refund:
    if refund.status == "failed":
        return refund
    refund.status = "failed"
    refund.failure = {"code": code[:MAX_WORDS], "message": message[:MAX_WORDS]}
    await _touched(session, refund)
    await orders.record(
        session, order, ORDER_REFUND_FAILED, {"refund_id": (None, str(refund.id)), "code": (None, code)}, by
    )
    total = order_events.shown(refund.amount_minor, order.currency)
    told = order_events.event(ORDER_REFUND_FAILED, order, refund_id=str(refund.id), total=total, code=code)
    await publish(session, [told])
    return refund


async def _touched(session: TenantSession, refund: Refund) -> None:
    refund.updated_at = func.clock_timestamp()
    await session.flush()
    await session.refresh(refund)


def _shown(refund: Refund) -> str:
    return f"{currencies.from_minor(refund.amount_minor, refund.currency)} {refund.currency}"


def _money(order: Order, minor: int) -> str:
    return f"{currencies.from_minor(minor, order.currency)} {order.currency}"
