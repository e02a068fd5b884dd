"""Finding orders, and what is shown of one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, select

from core.database import TenantSession
from models import Fulfilment, Order, OrderLine
from services.commerce import orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which orders; all that is given must hold."""

    status: str | None = None
    payment_status: str | None = None
    fulfilment_status: str | None = None
    person_id: UUID | None = None
    organization_id: UUID | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """An order with all that is its own."""

    order: Order
    lines: Sequence[OrderLine]
    fulfilments: Sequence[Fulfilment]
    """In the order they were sent."""


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Order]:
    """Return up to `limit` orders, newest first, those made before `before` only."""
    statement = select(Order).where(Order.tenant_id == session.tenant_id, *_conditions(wanted))
    if before is not None:
        statement = statement.where(Order.id < before)
    ordered = statement.order_by(Order.id.desc()).limit(limit)
    return list(await session.scalars(ordered.execution_options(populate_existing=True)))


async def whole(session: TenantSession, order_id: UUID) -> Whole:
    """Return an order with its lines and parcels.

    Raises:
        NotFoundError: no such order in this tenant.
    """
    order = await orders.get(session, order_id)
    parcels = await parcels_of(session, [order_id])
    return Whole(order, await orders.lines_of(session, order_id), parcels.get(order_id, []))


async def parcels_of(session: TenantSession, order_ids: Collection[UUID]) -> dict[UUID, list[Fulfilment]]:
    """Return by order its parcels, in the order they were sent; orders without are left out."""
    rows = await session.scalars(
        select(Fulfilment)
        .where(Fulfilment.tenant_id == session.tenant_id, Fulfilment.order_id.in_(sorted(set(order_ids))))
        .order_by(Fulfilment.id)
        .execution_options(populate_existing=True)
    )
    found: dict[UUID, list[Fulfilment]] = {}
    for row in rows:
        found.setdefault(row.order_id, []).append(row)
    return found


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    return [
        column == value
        for column, value in (
            (Order.status, wanted.status),
            (Order.payment_status, wanted.payment_status),
            (Order.fulfilment_status, wanted.fulfilment_status),
            (Order.person_id, wanted.person_id),
            (Order.organization_id, wanted.organization_id),
            (Order.number, wanted.number),
        )
        if value is not None
    ]
