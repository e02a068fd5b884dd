"""Finding products."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from models import Product, ProductCategory, Variant
from services.commerce import categories, product_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which products; all that is given must hold."""

    status: str | None = None
    key: str | None = None
    sku: str | None = None
    """Of one of its variants."""
    external_id: str | None = None
    category_id: UUID | None = None
    """It, or one below it."""
    search: str | None = None
    """Beginnings of words of its name or key, of a SKU or of the external id."""


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Product]:
    """Return up to `limit` products, newest first, those made before `before` only."""
    statement = select(Product).where(Product.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(Product.id < before)
    if wanted.status is not None:
        statement = statement.where(Product.status == wanted.status)
    if wanted.key is not None:
        statement = statement.where(Product.key == wanted.key)
    if wanted.external_id is not None:
        statement = statement.where(Product.external_id == wanted.external_id)
    if wanted.sku is not None:
        statement = statement.where(
            Product.id.in_(
                select(Variant.product_id).where(Variant.tenant_id == session.tenant_id, Variant.sku == wanted.sku)
            )
        )
    if wanted.category_id is not None:
        shelves = await categories.down(session, wanted.category_id)
        statement = statement.where(
            Product.id.in_(
                select(ProductCategory.product_id).where(
                    ProductCategory.tenant_id == session.tenant_id, ProductCategory.category_id.in_(shelves)
                )
            )
        )
    if wanted.search is not None:
        statement = statement.where(product_words.matching(session, wanted.search))
    return list(await session.scalars(statement.order_by(Product.id.desc()).limit(limit)))
