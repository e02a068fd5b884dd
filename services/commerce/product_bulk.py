"""Many products made and changed at once, in as many statements as a few: for files of them.

Each is known by its external id, else by its key, else by its first SKU; variants that are not named stay.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Text, Uuid

from contracts.events import PRODUCT_ARCHIVED, PRODUCT_CREATED, PRODUCT_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, PlatformError
from core.ids import new_ids
from models import Category, Product, ProductCategory, Variant
from services.commerce import product_words, variants
from services.commerce.product_fields import MAX_VARIANTS, ProductChange, key_of, merged
from services.events.publish import NewEvent, publish
from services.shared import activity

_PLAIN: Final = ("key", "name", "description", "status", "external_id")
_UPDATE: Final = text("""
    UPDATE product p
    SET key = n.key, name = n.name, description = n.description, status = n.status, external_id = n.external_id,
        attributes = n.attributes::jsonb, updated_at = now()
    FROM unnest(:ids, :key, :name, :description, :status, :external_id, :attributes)
         AS n(id, key, name, description, status, external_id, attributes)
    WHERE p.tenant_id = :tenant AND p.id = n.id
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)), *(bindparam(name, type_=ARRAY(Text)) for name in (*_PLAIN, "attributes"))
)


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be true of a product."""

    change: ProductChange
    """Normalized."""
    categories: Sequence[str] | None = None
    """Keys of all it stands in; None: they stay."""


@dataclass(slots=True)
class Written:
    """What became of products, by their place among those given."""

    created: list[int] = field(default_factory=list[int])
    updated: list[int] = field(default_factory=list[int])
    unchanged: list[int] = field(default_factory=list[int])
    refused: dict[int, PlatformError] = field(default_factory=dict[int, PlatformError])


@dataclass(slots=True)
class _Plan:
    """What is to be written, by the place among the products given."""

    wanted: dict[int, UUID] = field(default_factory=dict[int, UUID])
    """The product each is."""
    fresh: list[int] = field(default_factory=list[int])
    changed: list[int] = field(default_factory=list[int])
    before: dict[UUID, dict[str, Any]] = field(default_factory=dict[UUID, dict[str, Any]])
    """Of those that are there."""
    after: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])


@dataclass(slots=True)
class _Known:
    """What of the store the products given may mean."""

    by_external_id: dict[str, UUID] = field(default_factory=dict[str, UUID])
    by_key: dict[str, UUID] = field(default_factory=dict[str, UUID])
    by_sku: dict[str, UUID] = field(default_factory=dict[str, UUID])
    skus: dict[UUID, set[str]] = field(default_factory=dict[UUID, set[str]])
    """All that products which are there have."""
    categories: dict[str, UUID] = field(default_factory=dict[str, UUID])


async def upsert_all(session: TenantSession, given: Sequence[Given], *, existing: str = "update", by: Actor) -> Written:
    """Create or change products. Those that cannot be are refused, and the others are written.

    No two may mean one product. With `existing` "skip" those that are there stay as they are.

    Raises:
        ConflictError: others made the like meanwhile: roll back, and begin again.
    """
    written = Written()
    known = await _look(session, given)
    plan = await _planned(session, given, known, written, skip=existing == "skip")
    await _insert(session, {plan.wanted[number]: plan.after[number] for number in plan.fresh})
    await _update(session, {plan.wanted[number]: plan.after[number] for number in plan.changed})
    touched = await _shelve(
        session,
        {
            product_id: {known.categories[key] for key in given[number].categories or ()}
            for number, product_id in plan.wanted.items()
            if given[number].categories is not None
        },
    )
    named = {
        product_id: variants_given
        for number, product_id in plan.wanted.items()
        if (variants_given := given[number].change.variants)
    }
    moved = await variants.write_all(session, named, whole=False, by=by)
    touched |= {product_id for product_id, some in moved.items() if some}
    await product_words.index(session, list(plan.wanted.values()))
    await _report(session, plan, touched, by=by)
    written.created = plan.fresh
    for number, product_id in plan.wanted.items():
        if number not in plan.fresh:
            (written.updated if number in plan.changed or product_id in touched else written.unchanged).append(number)
    return written


async def _planned(
    session: TenantSession, given: Sequence[Given], known: _Known, written: Written, *, skip: bool
) -> _Plan:
    ids = new_ids(len(given))
    plan = _Plan()
    for number, one in enumerate(given):
        try:
            found = _meant(one, known)
            if found in plan.wanted.values():
                raise _taken("external_id", "another row means the same product")
            _check(one, found, known)
        except PlatformError as error:
            written.refused[number] = error
            continue
        if found is not None and skip:
            written.unchanged.append(number)
            continue
        if found is None:
            plan.fresh.append(number)
        plan.wanted[number] = found or ids[number]
        _claim(one, plan.wanted[number], known)
    there = {number: product_id for number, product_id in plan.wanted.items() if product_id != ids[number]}
    plan.before = await _held(session, list(there.values()))
    if len(plan.before) < len(there):
        raise ConflictError("A product was deleted meanwhile.")
    for number, product_id in plan.wanted.items():
        key = None if number in there else _key(given[number], product_id, known)
        plan.after[number] = _after(given[number].change, plan.before.get(product_id), key)
    plan.changed = [number for number, one in there.items() if _differs(plan.before[one], plan.after[number])]
    return plan


async def _look(session: TenantSession, given: Sequence[Given]) -> _Known:
    external_ids = {one.change.fields.get("external_id") for one in given} - {None}
    keys = {one.change.fields.get("key") for one in given} | {
        key_of(one.change.fields.get("name") or "") or "product" for one in given
    }
    skus = {variant.sku for one in given for variant in one.change.variants or ()}
    shelves = {key for one in given for key in one.categories or ()}
    tenant, known = session.tenant_id, _Known()
    products = await session.execute(
        select(Product.id, Product.external_id, Product.key).where(
            Product.tenant_id == tenant, Product.external_id.in_(external_ids) | Product.key.in_(keys - {None})
        )
    )
    for row in products:
        known.by_key[row.key] = row.id
        if row.external_id is not None:
            known.by_external_id[row.external_id] = row.id
    sold = await session.execute(
        select(Variant.sku, Variant.product_id).where(Variant.tenant_id == tenant, Variant.sku.in_(skus))
    )
    known.by_sku = {row.sku: row.product_id for row in sold}
    there = {*known.by_key.values(), *known.by_external_id.values(), *known.by_sku.values()}
    all_sold = await session.execute(
        select(Variant.sku, Variant.product_id).where(Variant.tenant_id == tenant, Variant.product_id.in_(there))
    )
    for row in all_sold:
        known.skus.setdefault(row.product_id, set()).add(row.sku)
    places = await session.execute(
        select(Category.key, Category.id)
        .where(Category.tenant_id == tenant, Category.key.in_(shelves))
        .order_by(Category.id)
        .with_for_update(read=True, key_share=True)
    )
    known.categories = {row.key: row.id for row in places}
    return known


def _meant(one: Given, known: _Known) -> UUID | None:
    """Return the product that is meant, where it is there."""
    external_id, key = one.change.fields.get("external_id"), one.change.fields.get("key")
    if external_id is not None:
        return known.by_external_id.get(external_id)
    if key is not None:
        return known.by_key.get(key)
    return next(
        (known.by_sku[each.sku] for each in one.change.variants or () if each.sku and each.sku in known.by_sku), None
    )


def _check(one: Given, found: UUID | None, known: _Known) -> None:
    """Refuse what cannot be written.

    Raises:
        InvalidError: something is missing of a new product, or a category is not known.
        ConflictError: the key or a SKU is another product's.
    """
    fields = one.change.fields
    for name, there in (("name", fields.get("name")), ("variants", one.change.variants)):
        if found is None and not there:
            raise InvalidError.of(name, "is needed for a product that is not there yet")
    theirs = set[str]() if found is None else known.skus.get(found, set())
    if len(theirs | {each.sku for each in one.change.variants or ()}) > MAX_VARIANTS:
        raise InvalidError.of("variants", f"would be more than {MAX_VARIANTS}")
    for key in one.categories or ():
        if key not in known.categories:
            raise InvalidError.of("categories", f"there is no category {key}")
    if fields.get("key") is not None and known.by_key.get(fields["key"]) not in {None, found}:
        raise _taken("key", f"{fields['key']} is another product's")
    for each in one.change.variants or ():
        if each.sku is not None and known.by_sku.get(each.sku) not in {None, found}:
            raise _taken("sku", f"{each.sku} is another product's")


def _claim(one: Given, product_id: UUID, known: _Known) -> None:
    """Note what is this product's from now on."""
    fields = one.change.fields
    if fields.get("external_id") is not None:
        known.by_external_id[fields["external_id"]] = product_id
    if fields.get("key") is not None:
        known.by_key[fields["key"]] = product_id
    known.by_sku |= {each.sku: product_id for each in one.change.variants or () if each.sku is not None}


def _key(one: Given, product_id: UUID, known: _Known) -> str:
    """Return the key of a new product, made of its name unless given."""
    key = one.change.fields.get("key")
    if key is None:
        key = key_of(one.change.fields["name"]) or "product"
        if key in known.by_key:
            key = f"{key}-{product_id.hex[-8:]}"
        known.by_key[key] = product_id
    return key


async def _held(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    rows = await session.execute(
        select(Product.id, Product.attributes, *(getattr(Product, name) for name in _PLAIN))
        .where(Product.tenant_id == session.tenant_id, Product.id.in_(ids))
        .order_by(Product.id)
        .with_for_update(key_share=True)
    )
    return {row["id"]: dict(row) for row in rows.mappings()}


def _after(change: ProductChange, before: Mapping[str, Any] | None, key: str | None) -> dict[str, Any]:
    base: Mapping[str, Any] = before or {"description": None, "status": "active", "external_id": None, "attributes": {}}
    given = {name: value for name, value in change.fields.items() if value is not None}
    values = {**base, **given, "attributes": merged(base["attributes"], change.attributes or {})}
    return {name: values[name] for name in (*_PLAIN, "attributes") if name != "key"} | {"key": key or values["key"]}


def _differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return any(before[name] != after[name] for name in _PLAIN) or _json(before) != _json(after)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values["attributes"], sort_keys=True)


async def _insert(session: TenantSession, rows: Mapping[UUID, Mapping[str, Any]]) -> None:
    if not rows:
        return
    values = [{"tenant_id": session.tenant_id, "id": product_id, **row} for product_id, row in rows.items()]
    made = await session.scalars(insert(Product).values(values).on_conflict_do_nothing().returning(Product.id))
    if len(made.all()) < len(rows):
        raise ConflictError("Others made the like meanwhile.")


async def _update(session: TenantSession, rows: Mapping[UUID, Mapping[str, Any]]) -> None:
    if not rows:
        return
    values: dict[str, Any] = {name: [row[name] for row in rows.values()] for name in _PLAIN}
    values["attributes"] = [json.dumps(row["attributes"]) for row in rows.values()]
    await session.execute(_UPDATE, {"tenant": session.tenant_id, "ids": list(rows), **values})


async def _shelve(session: TenantSession, wanted: Mapping[UUID, set[UUID]]) -> set[UUID]:
    """Have products stand in these categories alone; return which of them move."""
    if not wanted:
        return set()
    rows = await session.execute(
        select(ProductCategory.product_id, ProductCategory.category_id).where(
            ProductCategory.tenant_id == session.tenant_id, ProductCategory.product_id.in_(wanted)
        )
    )
    before = {(row.product_id, row.category_id) for row in rows}
    after = {(product_id, shelf) for product_id, shelves in wanted.items() for shelf in shelves}
    if gone := sorted(before - after):
        await session.execute(_UNSHELVE, {"tenant": session.tenant_id, **_pairs(gone)})
    if added := sorted(after - before):
        await session.execute(_SHELVE, {"tenant": session.tenant_id, **_pairs(added)})
    return {product_id for product_id, _ in before ^ after}


_UNSHELVE: Final = text("""
    DELETE FROM product_category c USING unnest(:products, :shelves) AS n(product_id, category_id)
    WHERE c.tenant_id = :tenant AND c.product_id = n.product_id AND c.category_id = n.category_id
""").bindparams(bindparam("products", type_=ARRAY(Uuid)), bindparam("shelves", type_=ARRAY(Uuid)))
_SHELVE: Final = text("""
    INSERT INTO product_category (tenant_id, product_id, category_id)
    SELECT :tenant AS tenant_id, n.* FROM unnest(:products, :shelves) AS n ON CONFLICT DO NOTHING
""").bindparams(bindparam("products", type_=ARRAY(Uuid)), bindparam("shelves", type_=ARRAY(Uuid)))


def _pairs(pairs: Sequence[tuple[UUID, UUID]]) -> dict[str, list[UUID]]:
    return {"products": [one for one, _ in pairs], "shelves": [shelf for _, shelf in pairs]}


def _taken(name: str, reason: str) -> ConflictError:
    return ConflictError(f"{name}: {reason}", errors=[FieldProblem(name, reason)])


async def _report(session: TenantSession, plan: _Plan, touched: set[UUID], *, by: Actor) -> None:
    logged: list[activity.NewActivity] = []
    events: list[NewEvent] = []
    for number, product_id in plan.wanted.items():
        new, old = plan.after[number], plan.before.get(product_id)
        if old is not None and number not in plan.changed and product_id not in touched:
            continue
        was: Mapping[str, Any] = old or {"attributes": {}}
        changes = {name: (was.get(name), new[name]) for name in _PLAIN if was.get(name) != new[name]}
        if _json(was) != _json(new):
            changes["attributes"] = (was["attributes"], new["attributes"])
        about: dict[str, Any] = {"key": new["key"]}
        if old is None:
            kind = PRODUCT_CREATED
            about["status"] = new["status"]
        else:
            kind = PRODUCT_ARCHIVED if "status" in changes and new["status"] == "archived" else PRODUCT_UPDATED
            about["fields"] = sorted({*changes, *(["variants"] if product_id in touched else [])})
        logged.append(activity.NewActivity("product", product_id, kind, changes))
        events.append(NewEvent(kind, product_id, subject_type="product", properties=about))
    await activity.record_all(session, logged, by=by)
    await publish(session, events)
