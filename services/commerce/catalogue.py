"""The catalogue as it is shown: products with their variants, what those cost and how many can be had.

However many products there are to show, it takes the same few statements.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from models import Price, Product, ProductCategory, Variant
from services.commerce import prices

_AVAILABLE: Final = text("""
    SELECT l.variant_id, sum(l.available)::bigint AS available
    FROM stock_level l JOIN stock_location p ON p.tenant_id = :tenant AND p.id = l.location_id
    WHERE l.tenant_id = :tenant AND l.variant_id = ANY(:variants) AND p.active
    GROUP BY l.variant_id
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True)
class Offered:
    """A variant with what it costs, and how many can be had of it."""

    variant: Variant
    prices: list[Price]
    available: int | None
    """Over all active locations; None where its stock is not counted."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A product with its variants, in their order, and the categories it stands in."""

    product: Product
    variants: list[Offered]
    category_ids: list[UUID]


async def shown(session: TenantSession, products: Sequence[Product]) -> list[Shown]:
    """Return products with all that is shown of them, in their order."""
    ids = [product.id for product in products]
    if not ids:
        return []
    rows = await session.scalars(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.product_id.in_(ids))
        .order_by(Variant.product_id, Variant.position, Variant.id)
        .execution_options(populate_existing=True)
    )
    by_product: dict[UUID, list[Offered]] = {product_id: [] for product_id in ids}
    for one in await offered(session, rows.all()):
        by_product[one.variant.product_id].append(one)
    shelves: dict[UUID, list[UUID]] = {product_id: [] for product_id in ids}
    places = await session.execute(
        select(ProductCategory.product_id, ProductCategory.category_id)
        .where(ProductCategory.tenant_id == session.tenant_id, ProductCategory.product_id.in_(ids))
        .order_by(ProductCategory.category_id)
    )
    for place in places:
        shelves[place.product_id].append(place.category_id)
    return [Shown(product, by_product[product.id], shelves[product.id]) for product in products]


async def offered(session: TenantSession, variants: Sequence[Variant]) -> list[Offered]:
    """Return variants with prices and stock, in their order."""
    ids = [variant.id for variant in variants]
    if not ids:
        return []
    costs, left = await prices.all_of(session, ids), await available(session, ids)
    return [Offered(one, costs[one.id], left.get(one.id, 0) if one.tracked else None) for one in variants]


async def available(session: TenantSession, variant_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return how many pieces of variants can be had, over all active locations; those never stocked are left out."""
    rows = await session.execute(_AVAILABLE, {"tenant": session.tenant_id, "variants": sorted(set(variant_ids))})
    return {row.variant_id: row.available for row in rows}
