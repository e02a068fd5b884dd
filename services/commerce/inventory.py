"""Looking at stock: levels with what they are of, entries of the ledger, and what is held for whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select

from core.database import TenantSession
from models import Product, Reservation, StockLevel, StockMovement, Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFilter:
    """Which levels; all that is given must hold."""

    variant_id: UUID | None = None
    sku: str | None = None
    product_id: UUID | None = None
    location_id: UUID | None = None
    below: int | None = None
    """Of which fewer can be had."""


@dataclass(frozen=True, slots=True)
class LevelOf:
    """A level, and what it is of."""

    variant_id: UUID
    location_id: UUID
    sku: str
    product_id: UUID
    product_name: str
    variant_name: str | None
    on_hand: int
    reserved: int
    available: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementFilter:
    """Which entries; all that is given must hold."""

    variant_id: UUID | None = None
    location_id: UUID | None = None
    kind: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """Which reservations; all that is given must hold."""

    variant_id: UUID | None = None
    location_id: UUID | None = None
    cart_id: UUID | None = None
    order_id: UUID | None = None
    status: str | None = None


async def levels(
    session: TenantSession, wanted: LevelFilter, *, limit: int, after: tuple[UUID, UUID] | None
) -> list[LevelOf]:
    """Return up to `limit` levels in the order of variant and location, those behind `after` only."""
    tenant = session.tenant_id
    statement = (
        select(
            StockLevel.variant_id,
            StockLevel.location_id,
            Variant.sku,
            Variant.product_id,
            Product.name.label("product_name"),
            Variant.name.label("variant_name"),
            StockLevel.on_hand,
            StockLevel.reserved,
            StockLevel.available,
            StockLevel.updated_at,
        )
        .join(Variant, (Variant.tenant_id == tenant) & (Variant.id == StockLevel.variant_id))
        .join(Product, (Product.tenant_id == tenant) & (Product.id == Variant.product_id))
        .where(StockLevel.tenant_id == tenant)
    )
    for column, value in (
        (StockLevel.variant_id, wanted.variant_id),
        (Variant.sku, wanted.sku),
        (Variant.product_id, wanted.product_id),
        (StockLevel.location_id, wanted.location_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.below is not None:
        statement = statement.where(StockLevel.available < wanted.below)
    if after is not None:
        # spelled out: rows are compared by an operator that uses no index under row-level security
        statement = statement.where(
            StockLevel.variant_id >= after[0],
            (StockLevel.variant_id > after[0]) | (StockLevel.location_id > after[1]),
        )
    ordered = statement.order_by(StockLevel.variant_id, StockLevel.location_id).limit(limit)
    return [LevelOf(**row) for row in (await session.execute(ordered)).mappings()]


async def movements(
    session: TenantSession, wanted: MovementFilter, *, limit: int, before: UUID | None
) -> Sequence[StockMovement]:
    """Return up to `limit` entries, the last first, booked before the entry `before` only."""
    statement = select(StockMovement).where(StockMovement.tenant_id == session.tenant_id)
    for column, value in (
        (StockMovement.variant_id, wanted.variant_id),
        (StockMovement.location_id, wanted.location_id),
        (StockMovement.kind, wanted.kind),
        (StockMovement.reference, wanted.reference),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(StockMovement.id < before)
    return (await session.scalars(statement.order_by(StockMovement.id.desc()).limit(limit))).all()


async def reservations(
    session: TenantSession, wanted: ReservationFilter, *, limit: int, before: UUID | None
) -> Sequence[Reservation]:
    """Return up to `limit` reservations, the last first, made before `before` only."""
    statement: Select[Reservation] = select(Reservation).where(Reservation.tenant_id == session.tenant_id)
    for column, value in (
        (Reservation.variant_id, wanted.variant_id),
        (Reservation.location_id, wanted.location_id),
        (Reservation.cart_id, wanted.cart_id),
        (Reservation.order_id, wanted.order_id),
        (Reservation.status, wanted.status),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(Reservation.id < before)
    ordered = statement.order_by(Reservation.id.desc()).limit(limit).execution_options(populate_existing=True)
    return (await session.scalars(ordered)).all()
