"""Pieces that come back with a refund: how many can, what was paid for them, and where they lie then."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from sqlalchemy import case, select

from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from models import OrderLine, Refund, Reservation
from services.commerce import stock
from services.commerce.stock import NewMovement


class Pieces(Protocol):
    """Some pieces of a line."""

    @property
    def line_id(self) -> UUID:
        """The order's line."""
        ...

    @property
    def quantity(self) -> int:
        """How many."""
        ...

    @property
    def restock(self) -> bool:
        """Whether they lie on a shelf again."""
        ...


def check(wanted: Sequence[Pieces], lines: Sequence[OrderLine], before: Sequence[Refund]) -> int:
    """Return what was paid for pieces, in the smallest unit; `before` are the order's refunds so far.

    A line's total is split over its pieces so that all of them together are just the total: the first n pieces are
    worth the total times n over their number, rounded down.

    Raises:
        InvalidError: naming the lines of which so many cannot come back.
    """
    known = {line.id: line for line in lines}
    returned, restocked = _so_far(before)
    problems: list[FieldProblem] = []
    worth = 0
    seen = set[UUID]()
    for number, one in enumerate(wanted):
        line = known.get(one.line_id)
        if line is None or one.line_id in seen:
            reason = "is not a line of the order" if line is None else "is named twice"
            problems.append(FieldProblem(f"lines.{number}.line_id", reason))
            continue
        seen.add(one.line_id)
        first = returned[line.id]
        if not 0 < one.quantity <= line.quantity - first:
            reason = f"must be from 1 to {line.quantity - first}" if line.quantity > first else "all have come back"
            problems.append(FieldProblem(f"lines.{number}.quantity", reason))
            continue
        if one.restock and one.quantity > line.fulfilled - restocked[line.id]:
            there = max(line.fulfilled - restocked[line.id], 0)
            problems.append(FieldProblem(f"lines.{number}.restock", f"only {there} that were sent can be put back"))
        worth += line.total_minor * (first + one.quantity) // line.quantity - line.total_minor * first // line.quantity
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    return worth


async def restock(session: TenantSession, refund: Refund, lines: Mapping[UUID, OrderLine], *, by: Actor) -> None:
    """Book a refund's pieces that lie on a shelf again, where they were taken from. What is not counted is left out."""
    back: Counter[UUID] = Counter()
    for one in refund.lines:
        variant = lines[UUID(one["line_id"])].variant_id
        if one["restock"] and variant is not None:
            back[variant] += one["quantity"]
    if not back:
        return
    rows = await session.execute(
        select(Reservation.variant_id, Reservation.location_id)
        .where(
            Reservation.tenant_id == session.tenant_id,
            Reservation.order_id == refund.order_id,
            Reservation.variant_id.in_(back),
        )
        .order_by(Reservation.variant_id, case((Reservation.status == "shipped", 0), else_=1), Reservation.id)
    )
    places: dict[UUID, UUID] = {}
    for row in rows:
        places.setdefault(row.variant_id, row.location_id)
    moves = [
        NewMovement(
            variant_id=variant,
            location_id=place,
            kind="return",
            quantity=back[variant],
            reference=f"refund:{refund.id}",
        )
        for variant, place in places.items()
    ]
    await stock.book(session, moves, by=by)


def kept_back(refund: Refund) -> dict[UUID, int]:
    """Return the pieces, by line, that do not come back to a shelf: what of them was not sent yet will not be."""
    return {UUID(one["line_id"]): one["quantity"] for one in refund.lines if not one["restock"]}


def _so_far(before: Sequence[Refund]) -> tuple[Counter[UUID], Counter[UUID]]:
    """Return how many pieces of each line are returned or about to be, and how many of them to a shelf."""
    returned: Counter[UUID] = Counter()
    restocked: Counter[UUID] = Counter()
    for refund in before:
        if refund.status == "failed":
            continue
        for one in refund.lines:
            returned[UUID(one["line_id"])] += one["quantity"]
            restocked[UUID(one["line_id"])] += one["quantity"] if one["restock"] else 0
    return returned, restocked
