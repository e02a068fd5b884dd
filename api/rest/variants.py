"""Variants and what they cost."""

from typing import Annotated
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import CurrencyCode, Strict
from api.paging import Page
from api.rest.product_shapes import (
    AmountIn,
    PriceIn,
    PriceOut,
    Prices,
    Sku,
    VariantOut,
    VariantPatch,
    prices_of,
)
from api.routing import Router
from core.database import TenantSession
from services.commerce import catalogue, prices, variants
from services.commerce.prices import PriceOf

router = Router(tags=["products"])

READ = [requires("products:read")]
WRITE = [requires("products:write")]


class PricesIn(Strict):
    """All prices of a variant."""

    prices: Prices


class PriceOfIn(PriceIn):
    """What a variant, named by its id or its SKU, costs in a currency."""

    variant_id: UUID | None = None
    sku: Sku | None = None


class ManyPricesIn(Strict):
    """Prices of many variants."""

    prices: Annotated[list[PriceOfIn], Field(min_length=1, max_length=prices.MAX_AT_ONCE)]


class PriceOfOut(PriceOut):
    """What a variant costs in a currency."""

    variant_id: UUID


class ManyPricesOut(Strict):
    """Prices as they are now, in the order given."""

    items: list[PriceOfOut]


@router.get("/variants/{variant_id}", dependencies=READ)
async def get(variant_id: UUID, session: SessionDep) -> VariantOut:
    """Return a variant with its prices, and how many can be had."""
    return await _shown(session, variant_id)


@router.patch("/variants/{variant_id}", dependencies=WRITE)
async def update(variant_id: UUID, body: VariantPatch, session: SessionDep, actor: ActorDep) -> VariantOut:
    """Change a variant; a field left out stays. 409 where the SKU is taken."""
    await variants.update(session, variant_id, body.change(), by=actor)
    return await _shown(session, variant_id)


@router.delete("/variants/{variant_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(variant_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a variant; 409 where it was sold or stocked: set `active` to false instead."""
    await variants.remove(session, variant_id, by=actor)


@router.get("/variants/{variant_id}/prices", dependencies=READ)
async def list_prices(variant_id: UUID, session: SessionDep) -> Page[PriceOut]:
    """List what a variant costs, in each currency; there are few enough for one page."""
    await variants.get(session, variant_id)
    return await _prices(session, variant_id)


@router.put("/variants/{variant_id}/prices", dependencies=WRITE)
async def replace_prices(variant_id: UUID, body: PricesIn, session: SessionDep, actor: ActorDep) -> Page[PriceOut]:
    """Set all prices of a variant; it cannot be had in other currencies any more."""
    await prices.replace(session, variant_id, prices_of(body.prices), by=actor)
    return await _prices(session, variant_id)


@router.put("/variants/{variant_id}/prices/{currency}", operation_id="variants.prices.set", dependencies=WRITE)
async def put_price(
    variant_id: UUID, currency: CurrencyCode, body: AmountIn, session: SessionDep, actor: ActorDep
) -> PriceOut:
    """Set what a variant costs in a currency; those who watch its price hear where that is less."""
    await prices.put(session, variant_id, body.price(currency), by=actor)
    (price,) = [row for row in (await prices.all_of(session, [variant_id]))[variant_id] if row.currency == currency]
    return PriceOut.of_row(price)


@router.delete("/variants/{variant_id}/prices/{currency}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove_price(variant_id: UUID, currency: str, session: SessionDep, actor: ActorDep) -> None:
    """Have a variant not be had in a currency any more."""
    await prices.remove(session, variant_id, currency, by=actor)


@router.put("/prices", dependencies=WRITE)
async def put_prices(body: ManyPricesIn, session: SessionDep, actor: ActorDep) -> ManyPricesOut:
    """Set many prices, all or none; prices in other currencies stay."""
    wanted = [
        PriceOf(price=one.price(one.currency, f"prices.{number}."), variant_id=one.variant_id, sku=one.sku)
        for number, one in enumerate(body.prices)
    ]
    found = await prices.put_all(session, wanted, by=actor)
    now = await prices.all_of(session, set(found))
    by_key = {(row.variant_id, row.currency): row for rows in now.values() for row in rows}
    return ManyPricesOut(
        items=[
            PriceOfOut(variant_id=variant, **PriceOut.of_row(by_key[variant, one.price.currency]).model_dump())
            for variant, one in zip(found, wanted, strict=True)
        ]
    )


async def _shown(session: TenantSession, variant_id: UUID) -> VariantOut:
    variant = await variants.get(session, variant_id)
    return VariantOut.of((await catalogue.offered(session, [variant]))[0])


async def _prices(session: TenantSession, variant_id: UUID) -> Page[PriceOut]:
    return Page(items=[PriceOut.of_row(row) for row in (await prices.all_of(session, [variant_id]))[variant_id]])
