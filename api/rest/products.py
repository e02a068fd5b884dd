"""Products with their variants and prices."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from fastapi import status as http

from api.dependencies import ActorDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.product_shapes import (
    ProductIn,
    ProductOut,
    ProductPatch,
    ProductPut,
    Status,
    VariantIn,
    VariantOut,
)
from api.routing import Router
from core.database import TenantSession
from models import Product
from services.commerce import catalogue, product_directory, products, variants

router = Router(prefix="/products", tags=["products"])

READ = [requires("products:read")]
WRITE = [requires("products:write")]


@router.post("", status_code=http.HTTP_201_CREATED, dependencies=WRITE, responses={200: {"model": ProductOut}})
async def upsert(body: ProductIn, session: SessionDep, actor: ActorDep, response: Response) -> ProductOut:
    """Create a product with its variants and prices (201), or change the one that has the external id (200).

    409 where the key or a SKU is another product's.
    """
    product, created = await products.upsert(session, body.change(), by=actor)
    if not created:
        response.status_code = http.HTTP_200_OK
    return await _shown(session, product)


@router.get("", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    status: Status | None = None,
    key: Annotated[str | None, Query(max_length=63)] = None,
    sku: Annotated[str | None, Query(max_length=100)] = None,
    external_id: Annotated[str | None, Query(max_length=255)] = None,
    category_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ProductOut]:
    """List products, newest first; every filter given must hold.

    `q` is beginnings of words of a name or key, or the beginning of a SKU or an external id. `category_id` asks for
    those in the category and in all below it.
    """
    wanted = product_directory.Filter(
        status=status, key=key, sku=sku, external_id=external_id, category_id=category_id, search=q
    )
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await product_directory.page(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[ProductOut.of(one) for one in await catalogue.shown(session, found[:limit])],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{product_id}", dependencies=READ)
async def get(product_id: UUID, session: SessionDep) -> ProductOut:
    """Return a product."""
    return await _shown(session, await products.get(session, product_id))


@router.put("/{product_id}", dependencies=WRITE)
async def replace(product_id: UUID, body: ProductPut, session: SessionDep, actor: ActorDep) -> ProductOut:
    """Set all of a product: variants keep their ids by their SKUs, those left out go."""
    return await _shown(session, await products.update(session, product_id, body.change(), by=actor))


@router.patch("/{product_id}", dependencies=WRITE)
async def update(product_id: UUID, body: ProductPatch, session: SessionDep, actor: ActorDep) -> ProductOut:
    """Change a product; a field left out stays, null clears it, and variants not named stay."""
    return await _shown(session, await products.update(session, product_id, body.change(), by=actor))


@router.delete("/{product_id}", status_code=http.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(product_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a product; 409 where a variant was sold or stocked: set its `status` to `archived` instead."""
    await products.remove(session, product_id, by=actor)


@router.get("/{product_id}/variants", dependencies=READ)
async def list_variants(product_id: UUID, session: SessionDep) -> Page[VariantOut]:
    """List a product's variants, in their order; there are few enough for one page."""
    product = await products.get(session, product_id)
    found = await variants.of_product(session, product.id)
    return Page(items=[VariantOut.of(one) for one in await catalogue.offered(session, found)])


@router.post("/{product_id}/variants", status_code=http.HTTP_201_CREATED, dependencies=WRITE)
async def add_variant(product_id: UUID, body: VariantIn, session: SessionDep, actor: ActorDep) -> VariantOut:
    """Add a variant; 409 where its SKU is taken."""
    made = await variants.add(session, product_id, body.change(), by=actor)
    return VariantOut.of((await catalogue.offered(session, [made]))[0])


async def _shown(session: TenantSession, product: Product) -> ProductOut:
    return ProductOut.of((await catalogue.shown(session, [product]))[0])
