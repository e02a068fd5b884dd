"""Orders: placed once of a cart that was paid or is charged to an organization, and changed after.

Locks are taken in this order: cart, order, payment, reservations, levels of stock, organization, the tenant's counter
of orders. The counter comes last, as all of a tenant's checkouts pass it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from contracts.events import ORDER_PLACED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id, new_ids
from models import Cart, Order, OrderCounter, OrderLine, OrganizationEntry, Payment, Variant
from services.commerce import on_account, order_events, reserving
from services.commerce.pricing import Priced, PricedLine
from services.events.publish import publish
from services.shared import activity

SUBJECT: Final = "order"
"""What the activity log calls an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a company says with an order."""

    on_account: bool = False
    """Charged to the cart's organization rather than paid."""
    purchase_order: str | None = None
    """Its own number for it."""
    note: str | None = None


_NO_TERMS: Final = Terms()


async def place(
    session: TenantSession,
    cart: Cart,
    priced: Priced,
    payment: Payment | None,
    *,
    by: Actor,
    terms: Terms = _NO_TERMS,
) -> Order:
    """Make the order of a cart's last checkout; a second time it is the same order.

    What the checkout holds is kept for the order, the payment is the order's from then on, an order on account is
    charged to the organization, and the cart is done with.

    Raises:
        ConflictError: the cart was joined into another, what it held was let go, or the payment is not captured.
        CreditLimitError: the organization would owe more than its limit.
        InvalidError: nothing pays for it, or the organization's account is in another currency.
    """
    cart = await _held_cart(session, cart.id)
    if cart.order_id is not None:
        return await get(session, cart.order_id)
    if cart.status == "joined":
        raise ConflictError("The cart was joined into another.")
    if payment is not None:
        payment = await _held_payment(session, payment.id)
        _check_paid(payment, cart, priced)
    elif priced.total_minor and not terms.on_account:
        raise InvalidError.of("payment", "an order that costs something is paid, or charged to an organization")
    order_id = new_id()
    await reserving.confirm(session, cart_id=cart.id, attempt=cart.attempt, order_id=order_id)
    charged = await _charged(session, cart, priced, order_id, by=by) if terms.on_account else None
    cart.status, cart.order_id, cart.failure, cart.updated_at = "ordered", order_id, None, func.now()
    if payment is not None:
        payment.order_id, payment.updated_at = order_id, func.now()
    order = Order(
        tenant_id=session.tenant_id,
        id=order_id,
        cart_id=cart.id,
        person_id=cart.person_id,
        organization_id=cart.organization_id,
        payment_status="paid" if charged is None else "on_account",
        currency=priced.currency,
        subtotal_minor=priced.subtotal_minor,
        discount_minor=priced.discount_minor,
        shipping_minor=priced.shipping_minor,
        tax_minor=priced.tax_minor,
        tax_included=priced.tax_included,
        total_minor=priced.total_minor,
        captured_minor=priced.total_minor,
        discount_code=priced.discount_code,
        shipping_method=priced.shipping_method,
        email=cart.email,
        shipping_address=cart.shipping_address,
        billing_address=cart.billing_address,
        attributes=cart.attributes,
        note=terms.note,
        purchase_order=terms.purchase_order,
        due_on=None if charged is None else charged.due_on,
    )
    lines = await _lines(session, order_id, priced.lines)
    await session.flush()
    await write(session, order, lines, by=by)
    return order


async def write(session: TenantSession, order: Order, lines: Sequence[OrderLine], *, by: Actor) -> None:
    """Number an order, and write it with its lines; whoever bought it is told of. The last thing to be done."""
    order.number = await _next_number(session)
    session.add(order)
    await session.flush()
    session.add_all(lines)
    await session.flush()
    total = order_events.shown(order.total_minor, order.currency)
    await record(
        session, order, ORDER_PLACED, {"number": (None, order.number), "total": (None, f"{total} {order.currency}")}, by
    )
    told = order_events.items(order, ((line, line.quantity) for line in lines))
    await publish(
        session,
        [order_events.event(ORDER_PLACED, order, total=total, payment=order.payment_status, items=told)],
    )


async def get(session: TenantSession, order_id: UUID) -> Order:
    """Return an order as it is now.

    Raises:
        NotFoundError: no such order in this tenant.
    """
    return _found(await session.get(Order, (session.tenant_id, order_id), populate_existing=True))


async def locked(session: TenantSession, order_id: UUID) -> Order:
    """Return an order as it is now, held until the transaction ends.

    Raises:
        NotFoundError: no such order in this tenant.
    """
    key = (session.tenant_id, order_id)
    return _found(await session.get(Order, key, with_for_update={"key_share": True}, populate_existing=True))


async def lines_of(session: TenantSession, order_id: UUID) -> list[OrderLine]:
    """Return an order's lines as they are now, in their order."""
    return (await lines_of_many(session, [order_id])).get(order_id, [])


async def lines_of_many(session: TenantSession, order_ids: Collection[UUID]) -> dict[UUID, list[OrderLine]]:
    """Return by order its lines as they are now, in their order; orders without are left out."""
    rows = await session.scalars(
        select(OrderLine)
        .where(OrderLine.tenant_id == session.tenant_id, OrderLine.order_id.in_(sorted(set(order_ids))))
        .order_by(OrderLine.order_id, OrderLine.number)
        .execution_options(populate_existing=True)
    )
    found: dict[UUID, list[OrderLine]] = {}
    for row in rows:
        found.setdefault(row.order_id, []).append(row)
    return found


def touch(order: Order) -> None:
    """Have a change of the order be seen; the caller flushes."""
    order.version += 1
    order.updated_at = func.now()


async def record(session: TenantSession, order: Order, verb: str, changes: activity.Changes, by: Actor) -> None:
    """Log a change of an order. Nothing that tells who bought it belongs into the log: it outlives an erasure."""
    await activity.record(session, by=by, subject_type=SUBJECT, subject_id=order.id, type=verb, changes=changes)


def _found(order: Order | None) -> Order:
    if order is None:
        raise NotFoundError("No such order.")
    return order


async def _held_cart(session: TenantSession, cart_id: UUID) -> Cart:
    cart = await session.get(
        Cart, (session.tenant_id, cart_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if cart is None:
        raise NotFoundError("No such cart.")
    return cart


async def _held_payment(session: TenantSession, payment_id: UUID) -> Payment:
    key = (session.tenant_id, payment_id)
    payment = await session.get(Payment, key, with_for_update={"key_share": True}, populate_existing=True)
    if payment is None:
        raise NotFoundError("No such payment.")
    return payment


def _check_paid(payment: Payment, cart: Cart, priced: Priced) -> None:
    if payment.cart_id != cart.id or payment.order_id is not None:
        raise ConflictError("The payment is of another cart or order.")
    kept = payment.captured_minor - payment.refunded_minor
    if (kept, payment.currency) != (priced.total_minor, priced.currency):
        raise ConflictError("The payment is not captured in full, or was given back.")


async def _charged(
    session: TenantSession, cart: Cart, priced: Priced, order_id: UUID, *, by: Actor
) -> OrganizationEntry | None:
    """Return the charge, None where there is nothing to charge."""
    if cart.organization_id is None:
        raise InvalidError.of("on_account", "needs a cart of an organization")
    if priced.total_minor == 0:
        return None
    return await on_account.charge(
        session,
        cart.organization_id,
        order_id=order_id,
        amount_minor=priced.total_minor,
        currency=priced.currency,
        by=by,
    )


async def _lines(session: TenantSession, order_id: UUID, priced: Sequence[PricedLine]) -> list[OrderLine]:
    known = await held_variants(session, {line.variant_id for line in priced})
    return [
        OrderLine(
            tenant_id=session.tenant_id,
            id=line_id,
            order_id=order_id,
            number=number,
            variant_id=line.variant_id if line.variant_id in known else None,
            sku=line.sku,
            name=line.name,
            quantity=line.quantity,
            unit_minor=line.unit_minor,
            discount_minor=line.discount_minor,
            tax_minor=line.tax_minor,
            total_minor=line.total_minor,
        )
        for number, (line_id, line) in enumerate(zip(new_ids(len(priced)), priced, strict=True), 1)
    ]


async def held_variants(session: TenantSession, variants: Collection[UUID]) -> set[UUID]:
    """Return which of the variants are still there; those cannot be deleted before the transaction ends."""
    rows = await session.scalars(
        select(Variant.id)
        .where(Variant.tenant_id == session.tenant_id, Variant.id.in_(variants))
        .order_by(Variant.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(rows)


async def _next_number(session: TenantSession) -> int:
    first = insert(OrderCounter).values(tenant_id=session.tenant_id, last=1)
    number = await session.scalar(
        first.on_conflict_do_update(
            index_elements=[OrderCounter.tenant_id], set_={"last": OrderCounter.last + 1}
        ).returning(OrderCounter.last)
    )
    if number is None:
        raise AssertionError("the counter always answers")
    return number
