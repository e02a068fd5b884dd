"""Things to put into carts."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert, select

from core.actor import CLI
from core.database import TenantSession
from core.ids import new_id
from models import Price, Product, StockLocation, Variant
from services.commerce import stock
from services.commerce.stock import NewMovement


async def goods(
    session: TenantSession,
    sku: str = "SHIRT",
    minor: int | None = 1_000,
    *,
    name: str = "Shirt",
    currency: str = "EUR",
    pieces: int = 0,
    **fields: Any,  # noqa: ANN401 - columns of the variant
) -> UUID:
    """Make a variant at a price, of which so many pieces lie in the one place there is; return its id."""
    own, product, variant = {"tenant_id": session.tenant_id}, new_id(), new_id()
    await session.execute(insert(Product).values(own | {"id": product, "key": product.hex, "name": name}))
    await session.execute(insert(Variant).values(own | {"id": variant, "product_id": product, "sku": sku} | fields))
    if minor is not None:
        values = own | {"variant_id": variant, "currency": currency, "amount_minor": minor}
        await session.execute(insert(Price).values(values))
    if pieces:
        place = await session.scalar(select(StockLocation.id).where(StockLocation.tenant_id == session.tenant_id))
        if place is None:
            place = new_id()
            await session.execute(insert(StockLocation).values(own | {"id": place, "key": "main", "name": "Main"}))
        new = NewMovement(variant_id=variant, location_id=place, kind="receive", quantity=pieces)
        await stock.book(session, [new], by=CLI)
    return variant
