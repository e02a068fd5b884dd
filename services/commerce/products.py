"""Products: made, changed with their variants and prices, archived and deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from contracts.events import PRODUCT_ARCHIVED, PRODUCT_CREATED, PRODUCT_DELETED, PRODUCT_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, UnavailableError
from core.ids import new_id
from models import Category, Product, ProductCategory
from services.commerce import product_words, variants
from services.commerce.product_fields import ProductChange, key_of, merged
from services.events.publish import NewEvent, publish
from services.shared import activity

ATTEMPTS: Final = 5
"""How often an upsert starts again because its external id was taken, or its product vanished, in the meantime."""

_OWN: Final = ("key", "name", "description", "status", "external_id")


async def upsert(session: TenantSession, change: ProductChange, *, by: Actor) -> tuple[Product, bool]:
    """Create a product, or change the one known by the external id; say whether it is new.

    Of a product that is known, variants not named stay.

    Raises:
        InvalidError: a value is not acceptable, or missing of a new product.
        ConflictError: the key or a SKU is another product's.
        UnavailableError: others changed the same product again and again meanwhile.
    """
    change = replaced(change.normalized(), whole=False)
    external_id = change.fields.get("external_id")
    for _ in range(ATTEMPTS):
        known = None if external_id is None else await _by_external_id(session, external_id)
        if known is None:
            product = await _create(session, change, by=by)
            if product is not None:
                return product, True
            continue  # another request has just created one with this external id
        product = await _locked(session, known)
        if product is not None:
            given = {name: value for name, value in change.fields.items() if value is not None}
            await _apply(session, product, replaced(change, fields=given), by=by)
            return product, False
    raise UnavailableError("Other requests keep changing the same product; try again in a moment.")


async def update(session: TenantSession, product_id: UUID, change: ProductChange, *, by: Actor) -> Product:
    """Change a product; where `change.whole` it is all there is to say of it.

    Raises:
        NotFoundError: no such product in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: the key, the external id or a SKU is another product's.
    """
    change = change.normalized()
    product = await _locked(session, product_id)
    if product is None:
        raise NotFoundError("No such product.")
    await _apply(session, product, change, by=by)
    return product


async def remove(session: TenantSession, product_id: UUID, *, by: Actor) -> None:
    """Delete a product with its variants, of which none was sold or stocked.

    Raises:
        NotFoundError: no such product in this tenant.
        ConflictError: a variant is in use, so that the product can only be archived.
    """
    product = await _locked(session, product_id)
    if product is None:
        raise NotFoundError("No such product.")
    mine = await variants.of_product(session, product_id)
    await variants.check_unused(session, [row.id for row in mine])
    await variants.delete_all(session, mine, by=by)
    await session.delete(product)
    await session.flush()
    changes = {"key": (product.key, None), "name": (product.name, None)}
    await _report(session, product, PRODUCT_DELETED, changes, {"key": product.key}, by=by)


async def get(session: TenantSession, product_id: UUID) -> Product:
    """Return a product.

    Raises:
        NotFoundError: no such product in this tenant.
    """
    found = await session.get(Product, (session.tenant_id, product_id), populate_existing=True)
    if found is None:
        raise NotFoundError("No such product.")
    return found


async def _by_external_id(session: TenantSession, external_id: str) -> UUID | None:
    return await session.scalar(
        select(Product.id).where(Product.tenant_id == session.tenant_id, Product.external_id == external_id)
    )


async def _locked(session: TenantSession, product_id: UUID) -> Product | None:
    """Return the product as it is now, held against changes, though not against being referred to."""
    return await session.get(
        Product, (session.tenant_id, product_id), with_for_update={"key_share": True}, populate_existing=True
    )


async def _create(session: TenantSession, change: ProductChange, *, by: Actor) -> Product | None:
    """Create the product, or return None where its external id has been taken since it was looked up."""
    fields = {name: value for name, value in change.fields.items() if value is not None}
    for name, given in (("name", fields.get("name")), ("variants", change.variants)):
        if not given:
            known = "" if "external_id" not in fields else ": there is no product with this external id"
            raise InvalidError.of(name, f"is needed{known}")
    product_id = new_id()
    key = fields.get("key") or await _free_key(session, fields["name"], product_id)
    values = {**fields, "key": key, "attributes": merged({}, change.attributes or {})}
    product = await session.scalar(
        insert(Product)
        .values(tenant_id=session.tenant_id, id=product_id, **values)
        .on_conflict_do_nothing()
        .returning(Product)
    )
    if product is None:
        if "external_id" in fields and await _by_external_id(session, fields["external_id"]):
            return None
        raise _taken("key", key)
    await _shelve(session, product, change.categories or ())
    await variants.write(session, product, change.variants or (), whole=True, by=by)
    await product_words.index(session, [product.id])
    changes = {name: (None, value) for name in _OWN if (value := getattr(product, name)) is not None}
    changes |= {f"attributes.{name}": (None, value) for name, value in product.attributes.items()}
    await _report(session, product, PRODUCT_CREATED, changes, {"key": product.key, "status": product.status}, by=by)
    return product


async def _free_key(session: TenantSession, name: str, product_id: UUID) -> str:
    key = key_of(name) or "product"
    taken = await session.scalar(select(Product.id).where(Product.tenant_id == session.tenant_id, Product.key == key))
    return key if taken is None else f"{key}-{product_id.hex[-8:]}"


async def _apply(session: TenantSession, product: Product, change: ProductChange, *, by: Actor) -> None:
    """Make the changes to a held product."""
    wanted = dict(change.fields)
    if change.attributes is not None or change.whole:
        wanted["attributes"] = merged({} if change.whole else product.attributes, change.attributes or {})
    changes: dict[str, tuple[Any, Any]] = {
        name: (getattr(product, name), value)
        for name, value in wanted.items()
        if name != "attributes" and getattr(product, name) != value
    }
    attributes = wanted.get("attributes", product.attributes)
    changes |= {
        f"attributes.{name}": (product.attributes.get(name), attributes.get(name))
        for name in sorted({*product.attributes, *attributes})
        if not _same(product.attributes.get(name), attributes.get(name))
    }
    await _set(session, product, wanted, changes)
    if change.categories is not None and (shelves := await _shelve(session, product, change.categories)):
        changes["category_ids"] = shelves
    moved = False
    if change.variants is not None:
        moved = bool(await variants.write(session, product, change.variants, whole=change.whole, by=by))
    if not changes and not moved:
        return
    if moved or "category_ids" in changes:
        product.updated_at = func.now()
        await session.flush()
    await session.refresh(product)
    await product_words.index(session, [product.id])
    archived = changes.get("status", (None, None))[1] == "archived"
    fields = sorted({*(name.partition(".")[0] for name in changes), *(["variants"] if moved else [])})
    kind = PRODUCT_ARCHIVED if archived else PRODUCT_UPDATED
    await _report(session, product, kind, changes, {"key": product.key, "fields": fields}, by=by)


async def _set(
    session: TenantSession, product: Product, wanted: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]
) -> None:
    if not changes:
        return
    try:
        async with session.begin_nested():
            for name, value in wanted.items():
                setattr(product, name, value)
            product.updated_at = func.now()
            await session.flush()
    except IntegrityError as error:
        for name in ("external_id", "key"):
            if f"product_{name}" in str(error.orig) or f"tenant_id_{name}" in str(error.orig):
                raise _taken(name, wanted[name]) from error
        raise
    await session.refresh(product)


def _same(one: object, other: object) -> bool:
    return one == other and type(one) is type(other)


async def _shelve(
    session: TenantSession, product: Product, wanted: Sequence[UUID]
) -> tuple[list[str], list[str]] | None:
    """Have the product stand in these categories alone; return those before and after where that is a change."""
    now = sorted(set(wanted))
    known = set(
        await session.scalars(
            select(Category.id)
            .where(Category.tenant_id == session.tenant_id, Category.id.in_(now))
            .order_by(Category.id)
            .with_for_update(read=True, key_share=True)
        )
    )
    problems = [
        FieldProblem(f"category_ids.{number}", "is not known") for number, one in enumerate(wanted) if one not in known
    ]
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    mine = (ProductCategory.tenant_id == session.tenant_id, ProductCategory.product_id == product.id)
    before = sorted(await session.scalars(select(ProductCategory.category_id).where(*mine)))
    if before == now:
        return None
    if gone := sorted(set(before) - set(now)):
        await session.execute(delete(ProductCategory).where(*mine, ProductCategory.category_id.in_(gone)))
    if added := sorted(set(now) - set(before)):
        rows = [{"tenant_id": session.tenant_id, "product_id": product.id, "category_id": one} for one in added]
        await session.execute(insert(ProductCategory).values(rows))
    return [str(one) for one in before], [str(one) for one in now]


def _taken(name: str, value: str) -> ConflictError:
    what = "external id" if name == "external_id" else name
    return ConflictError(
        f"There is a product with the {what} {value} already.", errors=[FieldProblem(name, "is taken")]
    )


async def _report(
    session: TenantSession,
    product: Product,
    kind: str,
    changes: activity.Changes,
    properties: Mapping[str, Any],
    *,
    by: Actor,
) -> None:
    await activity.record(session, by=by, subject_type="product", subject_id=product.id, type=kind, changes=changes)
    await publish(session, [NewEvent(kind, product.id, subject_type="product", properties=properties)])
