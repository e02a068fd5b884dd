"""A tenant's shop, made by the services, one transaction a call."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from core.actor import CLI
from core.database import Database, TenantSession
from services.commerce import adjusting, products, variants
from services.commerce.adjusting import Adjustment
from services.commerce.product_fields import NewPrice, ProductChange, VariantChange


@dataclass(frozen=True, slots=True)
class Goods:
    """Something on the shelf."""

    product_id: UUID
    variant_id: UUID
    sku: str


@dataclass(frozen=True, slots=True)
class Shop:
    """One tenant's products and stock."""

    database: Database
    tenant_id: UUID

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[TenantSession]:
        """A transaction of the tenant."""
        async with self.database.tenant(self.tenant_id) as session:
            yield session

    async def product(
        self,
        sku: str = "shirt",
        price: int = 1_000,
        stock: int | None = 10,
        *,
        currency: str = "EUR",
        name: str | None = None,
        **fields: Any,  # noqa: ANN401 - of the variant
    ) -> Goods:
        """Make a product of one variant at `price` (smallest unit), with `stock` pieces; None: they are not counted."""
        variant = VariantChange(
            sku=sku,
            fields={"tracked": stock is not None, **fields},
            prices=[NewPrice(currency=currency, amount_minor=price)],
        )
        async with self.session() as session:
            made, _ = await products.upsert(
                session, ProductChange(fields={"name": name or sku.title()}, variants=[variant]), by=CLI
            )
            found = await variants.by_sku(session, sku)
        if stock:
            await self.adjust(sku, stock)
        return Goods(made.id, found.id, sku)

    async def adjust(self, sku: str, delta: int) -> None:
        """Have pieces come or go."""
        async with self.session() as session:
            await adjusting.adjust(session, [Adjustment(sku=sku, delta=delta)], by=CLI)
