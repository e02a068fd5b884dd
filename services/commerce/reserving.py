"""Pieces held for a checkout: all of its lines or none, until they are shipped, let go or their time is over.

A cart's attempt is reserved once: asked for again it is the same reservation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Integer, Select, Uuid, bindparam, func, insert, select, text, update

from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from core.ids import new_id, new_ids
from models import Reservation, StockLocation, StockMovement, Variant
from services.commerce import levels, stock
from services.commerce.levels import Levels
from services.commerce.stock import NewMovement

EXPIRING_PAGE: Final = 500

# One line, as most carts have, of which the first location with enough still has enough when its turn comes. Whatever
# else there may be to decide finds no row here and is decided under lock.
_ONE: Final = text("""
    WITH choice AS (
      SELECT l.location_id
      FROM stock_level l JOIN stock_location p ON p.tenant_id = :tenant AND p.id = l.location_id
      WHERE l.tenant_id = :tenant AND l.variant_id = :variant AND l.available >= :quantity AND p.active
        AND (SELECT v.tracked FROM variant v WHERE v.tenant_id = :tenant AND v.id = :variant)
        AND NOT EXISTS (SELECT FROM reservation r
                        WHERE r.tenant_id = :tenant AND r.cart_id = :cart AND r.attempt = :attempt)
      ORDER BY p.position, l.location_id LIMIT 1
    ), taken AS (
      UPDATE stock_level l SET reserved = l.reserved + :quantity, updated_at = now() FROM choice c
      WHERE l.tenant_id = :tenant AND l.variant_id = :variant AND l.location_id = c.location_id
        AND l.available >= :quantity
      RETURNING l.location_id
    )
    INSERT INTO reservation (tenant_id, id, cart_id, attempt, variant_id, location_id, quantity, expires_at)
    SELECT :tenant AS tenant_id, :id, :cart, :attempt, :variant, location_id, :quantity, :expires_at FROM taken
    RETURNING location_id
""").bindparams(
    *(bindparam(name, type_=Uuid) for name in ("tenant", "variant", "cart", "id")),
    bindparam("quantity", type_=BigInteger),
    bindparam("attempt", type_=Integer),
    bindparam("expires_at", type_=DateTime(timezone=True)),
)


@dataclass(frozen=True, slots=True)
class Line:
    """Some pieces of a variant."""

    variant_id: UUID
    quantity: int


@dataclass(frozen=True, slots=True)
class Held:
    """Pieces that are held, and where. Of variants whose stock is not counted nothing is."""

    variant_id: UUID
    location_id: UUID
    quantity: int


class OutOfStockError(ConflictError):
    """There is less than was asked for; `short` says by variant how many pieces can be had."""

    def __init__(self, short: Mapping[UUID, int]) -> None:
        """Name what is short."""
        self.short = dict(short)
        super().__init__(
            "There are not enough pieces.",
            errors=[FieldProblem("lines", f"of {variant} only {left} can be had") for variant, left in short.items()],
            extra={"short": {str(variant): left for variant, left in short.items()}},
        )


async def reserve(
    session: TenantSession, *, cart_id: UUID, attempt: int, lines: Sequence[Line], expires_at: datetime
) -> list[Held]:
    """Hold all lines for a checkout, or nothing; return what is held where.

    Raises:
        OutOfStockError: there is not enough; nothing was changed.
        InvalidError: a variant is not known, or a quantity is not more than zero.
        ConflictError: this attempt was reserved and let go before.
    """
    for number, line in enumerate(lines):
        if not 0 < line.quantity <= stock.MAX_PIECES:
            raise InvalidError.of(f"lines.{number}.quantity", f"must be from 1 to {stock.MAX_PIECES}")
    wanted = _summed(lines)
    if len(wanted) == 1:
        ((variant_id, quantity),) = wanted.items()
        values = {"tenant": session.tenant_id, "id": new_id(), "cart": cart_id, "attempt": attempt}
        more = {"variant": variant_id, "quantity": quantity, "expires_at": expires_at}
        location = await session.scalar(_ONE, values | more)
        if location is not None:
            return [Held(variant_id, location, quantity)]
    before = await _locked(session, _of_attempt(session, cart_id, attempt))
    if before:
        if any(row.status != "held" for row in before):
            raise ConflictError("What this attempt held was let go.")
        return [Held(row.variant_id, row.location_id, row.quantity) for row in before]
    taken = await _take(session, wanted)
    if taken:
        await session.execute(
            insert(Reservation),
            [
                {
                    "tenant_id": session.tenant_id,
                    "id": row_id,
                    "cart_id": cart_id,
                    "attempt": attempt,
                    "variant_id": one.variant_id,
                    "location_id": one.location_id,
                    "quantity": one.quantity,
                    "expires_at": expires_at,
                }
                for row_id, one in zip(new_ids(len(taken)), taken, strict=True)
            ],
        )
    return taken


async def release(session: TenantSession, *, cart_id: UUID, attempt: int) -> int:
    """Let go what an attempt holds; return how many reservations it was. Those that have an order stay."""
    rows = await _locked(session, _of_attempt(session, cart_id, attempt).where(Reservation.order_id.is_(None)))
    return await _let_go(session, rows, "released")


async def release_order(session: TenantSession, order_id: UUID) -> int:
    """Let go what is still held for an order; return how many reservations it was."""
    rows = await _locked(session, _all(session).where(Reservation.order_id == order_id))
    return await _let_go(session, rows, "released")


async def held_for(session: TenantSession, order_id: UUID) -> set[UUID]:
    """Return the variants of which pieces are, or were, held for an order."""
    rows = await session.scalars(
        select(Reservation.variant_id)
        .where(Reservation.tenant_id == session.tenant_id, Reservation.order_id == order_id)
        .distinct()
    )
    return set(rows)


async def release_pieces(session: TenantSession, order_id: UUID, lines: Sequence[Line]) -> None:
    """Let go some of the pieces that are held for an order, as far as they are held."""
    wanted = _summed(lines)
    rows = await _locked(session, _all(session).where(Reservation.order_id == order_id))
    mine = [row for row in rows if row.status == "held" and row.variant_id in wanted]
    if not mine:
        return
    held = await levels.lock(session, [row.variant_id for row in mine])
    for row in mine:
        part = min(wanted[row.variant_id], row.quantity)
        if part:
            wanted[row.variant_id] -= part
            held.at(row.variant_id, row.location_id).reserved -= part
            _take_off(row, part, "released")
    await session.flush()
    await held.save(session)


async def confirm(session: TenantSession, *, cart_id: UUID, attempt: int, order_id: UUID) -> None:
    """Keep what an attempt holds for its order, without end; a second time it changes nothing.

    Raises:
        ConflictError: it was let go, or is another order's.
    """
    rows = await _locked(session, _of_attempt(session, cart_id, attempt))
    if any(row.order_id not in {None, order_id} or row.status in {"released", "expired"} for row in rows):
        raise ConflictError("What this attempt held was let go, or is another order's.")
    await session.execute(
        update(Reservation)
        .where(Reservation.tenant_id == session.tenant_id, Reservation.id.in_([row.id for row in rows]))
        .values(order_id=order_id, expires_at=None, updated_at=func.now())
    )


async def ship(
    session: TenantSession, order_id: UUID, lines: Sequence[Line], *, reference: str, by: Actor
) -> list[StockMovement]:
    """Take pieces held for an order off the shelves; return the entries, for a known reference those of the first time.

    Raises:
        ConflictError: less is held for the order, or on hand where it is held.
    """
    rows = await _locked(session, _all(session).where(Reservation.order_id == order_id))
    before = [entry for entry in (await stock.booked_as(session, [reference])).values() if entry.kind == "ship"]
    if before:
        return before
    held = await levels.lock(session, [row.variant_id for row in rows])
    wanted = _summed(lines)
    moves: list[NewMovement] = []
    for row in rows:
        part = min(wanted.get(row.variant_id, 0), row.quantity) if row.status == "held" else 0
        if part <= 0:
            continue
        wanted[row.variant_id] -= part
        held.at(row.variant_id, row.location_id).reserved -= part
        _take_off(row, part, "shipped")
        key: dict[str, Any] = {"variant_id": row.variant_id, "location_id": row.location_id}
        moves.append(NewMovement(**key, kind="ship", quantity=-part, reference=reference))
    if any(wanted.values()):
        raise ConflictError("Less than that is held for the order.")
    entries = await stock.enter(session, held, moves, by=by)
    await held.save(session)
    return entries


async def expire(session: TenantSession) -> int:
    """Let go a page of what is held past its time; return how many reservations it was."""
    past = _all(session).where(text("reservation.status = 'held'"), Reservation.expires_at < func.now())
    rows = await session.scalars(
        past.limit(EXPIRING_PAGE).with_for_update(skip_locked=True).execution_options(populate_existing=True)
    )
    return await _let_go(session, rows.all(), "expired")


async def expire_all(database: Database) -> int:
    """Let go what is held past its time, in all tenants; return how many reservations it was."""
    async with database.system() as system:
        tenants = await system.scalars(
            select(Reservation.tenant_id)
            .where(text("reservation.status = 'held'"), Reservation.expires_at < func.now())
            .distinct()
        )
        waiting = tenants.all()
    count = 0
    for tenant_id in waiting:
        page = EXPIRING_PAGE
        while page == EXPIRING_PAGE:
            async with database.tenant(tenant_id) as session:
                page = await expire(session)
            count += page
    return count


async def _take(session: TenantSession, wanted: Mapping[UUID, int]) -> list[Held]:
    """Choose where pieces are taken from, and take them; whole from the first place with enough, else from several."""
    rows = await session.scalars(
        select(Variant).where(Variant.tenant_id == session.tenant_id, Variant.id.in_(wanted)).order_by(Variant.id)
    )
    variants = {row.id: row for row in rows}
    for variant_id in wanted:
        if variant_id not in variants:
            raise InvalidError.of("lines", f"no variant {variant_id} is known")
    counted = [row for row in variants.values() if row.tracked]
    if not counted:
        return []
    # What may be sold beyond what there is needs a level to be short at.
    first = await session.scalar(
        select(StockLocation.id)
        .where(StockLocation.tenant_id == session.tenant_id, StockLocation.active)
        .order_by(StockLocation.position, StockLocation.id)
        .limit(1)
    )
    opening = [] if first is None else [(row.id, first) for row in counted if row.backorder]
    held = await levels.lock(session, [row.id for row in counted], opening=opening)
    taken: list[Held] = []
    short: dict[UUID, int] = {}
    for row in counted:
        parts = _parts(held, row.id, wanted[row.id], beyond=row.backorder)
        if not parts:
            short[row.id] = max(sum(max(level.available, 0) for level in held.of(row.id)), 0)
        taken += parts
    if short:
        raise OutOfStockError(short)
    for part in taken:
        held.at(part.variant_id, part.location_id).reserved += part.quantity
    await held.save(session)
    return taken


def _parts(held: Levels, variant_id: UUID, quantity: int, *, beyond: bool) -> list[Held]:
    places = held.of(variant_id)
    for level in places:
        if level.available >= quantity:
            return [Held(variant_id, level.location_id, quantity)]
    parts: dict[UUID, int] = {}
    left = quantity
    for level in places:
        part = min(max(level.available, 0), left)
        if part:
            parts[level.location_id] = part
            left -= part
    if left and beyond and places:
        parts[places[0].location_id] = parts.get(places[0].location_id, 0) + left
        left = 0
    return [] if left else [Held(variant_id, location, part) for location, part in parts.items()]


def _summed(lines: Sequence[Line]) -> dict[UUID, int]:
    wanted: dict[UUID, int] = {}
    for line in lines:
        wanted[line.variant_id] = wanted.get(line.variant_id, 0) + line.quantity
    return wanted


def _take_off(row: Reservation, part: int, status: str) -> None:
    """Hold so many pieces less; `status` is what becomes of it where none are left."""
    if part == row.quantity:
        row.status = status
    else:
        row.quantity -= part
    row.updated_at = func.now()


def _all(session: TenantSession) -> Select[Reservation]:
    return select(Reservation).where(Reservation.tenant_id == session.tenant_id).order_by(Reservation.id)


def _of_attempt(session: TenantSession, cart_id: UUID, attempt: int) -> Select[Reservation]:
    return _all(session).where(Reservation.cart_id == cart_id, Reservation.attempt == attempt)


async def _locked(session: TenantSession, statement: Select[Reservation]) -> Sequence[Reservation]:
    rows = await session.scalars(statement.with_for_update().execution_options(populate_existing=True))
    return rows.all()


async def _let_go(session: TenantSession, rows: Sequence[Reservation], status: str) -> int:
    mine = [row for row in rows if row.status == "held"]
    if not mine:
        return 0
    held = await levels.lock(session, [row.variant_id for row in mine])
    for row in mine:
        held.at(row.variant_id, row.location_id).reserved -= row.quantity
    await held.save(session)
    await session.execute(
        update(Reservation)
        .where(Reservation.tenant_id == session.tenant_id, Reservation.id.in_([row.id for row in mine]))
        .values(status=status, updated_at=func.now())
    )
    return len(mine)
