"""Parcels: what of an order was sent, and whether it arrived."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import func, select

from contracts.events import ORDER_COMPLETED, ORDER_DELIVERED, ORDER_FULFILLED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Fulfilment, Order, OrderLine
from services.commerce import order_events, orders, reserving
from services.commerce.reserving import Line
from services.events.publish import publish
from services.identity import normalize

MAX_URL: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewParcel:
    """A parcel to send."""

    lines: Mapping[UUID, int] | None = None
    """Pieces by line; None: all that is left."""
    carrier: str | None = None
    tracking_number: str | None = None
    tracking_url: str | None = None

    def normalized(self) -> "NewParcel":
        """Return it in the spelling the store has.

        Raises:
            InvalidError: a value is not acceptable.
        """
        carrier = None if self.carrier is None else normalize.line(self.carrier, "carrier")
        number = None if self.tracking_number is None else normalize.line(self.tracking_number, "tracking_number")
        url = None if self.tracking_url is None else _url(self.tracking_url)
        return NewParcel(lines=self.lines, carrier=carrier, tracking_number=number, tracking_url=url)


async def ship(session: TenantSession, order_id: UUID, parcel: NewParcel, *, by: Actor) -> Fulfilment:
    """Send some pieces of an order, or all that are left; they leave the stock.

    Raises:
        NotFoundError: no such order in this tenant.
        InvalidError: a line is not the order's, or a value is not acceptable.
        ConflictError: the order was cancelled, nothing or less than that is left to be sent, or is on hand.
    """
    parcel = parcel.normalized()
    order = await orders.locked(session, order_id)
    if order.status == "cancelled":
        raise ConflictError("The order was cancelled.", errors=[FieldProblem("status", "is cancelled")])
    lines = await orders.lines_of(session, order_id)
    wanted = _wanted(lines, parcel.lines)
    fulfilment_id = new_id()
    await reserving.ship(
        session,
        order_id,
        await _counted(session, order_id, wanted),
        reference=f"fulfilment:{fulfilment_id}",
        by=by,
    )
    for line, quantity in wanted:
        line.fulfilled += quantity
    sent = Fulfilment(
        tenant_id=session.tenant_id,
        id=fulfilment_id,
        order_id=order_id,
        lines=[{"line_id": str(line.id), "quantity": quantity} for line, quantity in wanted],
        carrier=parcel.carrier,
        tracking_number=parcel.tracking_number,
        tracking_url=parcel.tracking_url,
        actor=by.name,
    )
    session.add(sent)
    before = order.fulfilment_status
    completed = advance(order, lines)
    orders.touch(order)
    await session.flush()
    await session.refresh(sent)
    pieces = sum(quantity for _, quantity in wanted)
    changes = {"fulfilment_status": (before, order.fulfilment_status), "pieces": (None, pieces)}
    await orders.record(session, order, ORDER_FULFILLED, {**changes, "fulfilment_id": (None, str(sent.id))}, by)
    told = order_events.event(
        ORDER_FULFILLED, order, **_shown(sent), items=order_events.items(order, wanted), whole=not _left(lines)
    )
    await publish(session, [told])
    if completed:
        await complete(session, order, by=by)
    return sent


async def deliver(session: TenantSession, fulfilment_id: UUID, *, by: Actor) -> Fulfilment:
    """Note that a parcel arrived; a second time it changes nothing.

    Raises:
        NotFoundError: no such parcel in this tenant.
    """
    found = await session.scalar(
        select(Fulfilment.order_id).where(Fulfilment.tenant_id == session.tenant_id, Fulfilment.id == fulfilment_id)
    )
    if found is None:
        raise NotFoundError("No such fulfilment.")
    order = await orders.locked(session, found)
    sent = await session.get_one(Fulfilment, (session.tenant_id, fulfilment_id), populate_existing=True)
    if sent.delivered_at is not None:
        return sent
    sent.delivered_at = func.now()
    orders.touch(order)
    await session.flush()
    await session.refresh(sent)
    await orders.record(session, order, ORDER_DELIVERED, {"fulfilment_id": (None, str(sent.id))}, by)
    await publish(session, [order_events.event(ORDER_DELIVERED, order, **_shown(sent))])
    return sent


async def let_go(session: TenantSession, order: Order, pieces: Mapping[UUID, int], *, by: Actor) -> dict[UUID, int]:
    """Have pieces that are given back, by line, not be sent any more where they were not yet.

    The order is held by the caller. Returns how many pieces of each line had been sent, so that they may come back.
    """
    lines = await orders.lines_of(session, order.id)
    unsent = [(line, min(line.quantity - line.fulfilled - line.released, pieces.get(line.id, 0))) for line in lines]
    going = [(line, quantity) for line, quantity in unsent if quantity > 0]
    back = {line.id: pieces[line.id] - quantity for line, quantity in unsent if line.id in pieces}
    if going:
        await reserving.release_pieces(session, order.id, await _counted(session, order.id, going))
        for line, quantity in going:
            line.released += quantity
        if advance(order, lines):
            await complete(session, order, by=by)
        orders.touch(order)
        await session.flush()
    return {line_id: quantity for line_id, quantity in back.items() if quantity > 0}


def advance(order: Order, lines: Sequence[OrderLine]) -> bool:
    """Have the order say how far it is; return whether it is completed by it."""
    sent = any(line.fulfilled for line in lines)
    left = _left(lines)
    order.fulfilment_status = "unfulfilled" if not sent else "partly_fulfilled" if left else "fulfilled"
    return order.fulfilment_status == "fulfilled" and order.status == "placed" and order.payment_status != "unpaid"


async def complete(session: TenantSession, order: Order, *, by: Actor) -> None:
    """End an order that was sent and is paid or charged."""
    order.status = "completed"
    await session.flush()
    await orders.record(session, order, ORDER_COMPLETED, {"status": ("placed", "completed")}, by)
    await publish(session, [order_events.event(ORDER_COMPLETED, order)])


def _left(lines: Sequence[OrderLine]) -> int:
    return sum(line.quantity - line.fulfilled - line.released for line in lines)


def _wanted(lines: Sequence[OrderLine], asked: Mapping[UUID, int] | None) -> list[tuple[OrderLine, int]]:
    left = {line.id: line.quantity - line.fulfilled - line.released for line in lines}
    if asked is None:
        wanted = [(line, left[line.id]) for line in lines if left[line.id]]
        if not wanted:
            raise ConflictError("Nothing is left to be sent.", errors=[FieldProblem("lines", "were all sent")])
        return wanted
    by_id = {line.id: line for line in lines}
    for number, (line_id, quantity) in enumerate(asked.items()):
        if line_id not in by_id:
            raise InvalidError.of(f"lines.{number}.line_id", "is no line of this order")
        if quantity < 1:
            raise InvalidError.of(f"lines.{number}.quantity", "must be 1 or more")
        if quantity > left[line_id]:
            raise ConflictError(
                f"Of {by_id[line_id].name} only {left[line_id]} are left to be sent.",
                errors=[FieldProblem(f"lines.{number}.quantity", f"is more than the {left[line_id]} left")],
            )
    if not asked:
        raise InvalidError.of("lines", "needs at least one")
    return [(by_id[line_id], quantity) for line_id, quantity in asked.items()]


async def _counted(session: TenantSession, order_id: UUID, wanted: Sequence[tuple[OrderLine, int]]) -> list[Line]:
    """Return the pieces that stock was held of; those of other variants, or of none, are sent without being booked."""
    counted = await reserving.held_for(session, order_id)
    return [
        Line(line.variant_id, quantity)
        for line, quantity in wanted
        if line.variant_id is not None and line.variant_id in counted
    ]


def _shown(parcel: Fulfilment) -> dict[str, str]:
    told = {"fulfilment_id": str(parcel.id)}
    for name in ("carrier", "tracking_number", "tracking_url"):
        value: str | None = getattr(parcel, name)
        if value is not None:
            told[name] = value
    return told


def _url(text: str) -> str:
    text = text.strip()
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and len(text) <= MAX_URL
    except ValueError:
        good = False
    if not good or not text.isprintable() or " " in text:
        raise InvalidError.of("tracking_url", f"must be an http or https address of at most {MAX_URL} characters")
    return text
