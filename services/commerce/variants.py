"""Variants of products: written together with their product or one at a time, archived or deleted, and found."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import Uuid

from contracts.events import VARIANT_CREATED, VARIANT_DELETED, VARIANT_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Product, Variant
from services.commerce import prices, product_words
from services.commerce.product_fields import MAX_VARIANTS, VariantChange, merged
from services.events.publish import NewEvent, publish
from services.shared import activity

DEFAULTS: Final[Mapping[str, Any]] = {
    "name": None,
    "options": {},
    "active": True,
    "tracked": True,
    "backorder": False,
    "tax_class": "standard",
    "attributes": {},
}
_OWN: Final = ("sku", *DEFAULTS, "position")

_USED: Final = text("""
    SELECT v.id, v.sku,
           CASE WHEN EXISTS (SELECT FROM order_line o WHERE o.tenant_id = :tenant AND o.variant_id = v.id)
                THEN 'it is in orders'
                WHEN EXISTS (SELECT FROM stock_movement m WHERE m.tenant_id = :tenant AND m.variant_id = v.id)
                THEN 'the ledger of its stock has entries'
                WHEN EXISTS (SELECT FROM reservation r WHERE r.tenant_id = :tenant AND r.variant_id = v.id)
                THEN 'pieces were held for carts'
                WHEN EXISTS (SELECT FROM cart_line c WHERE c.tenant_id = :tenant AND c.variant_id = v.id)
                THEN 'it is in carts'
           END AS reason
    FROM variant v WHERE v.tenant_id = :tenant AND v.id = ANY(:variants)
    ORDER BY v.sku
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))
_UNSTOCK: Final = text("""
    DELETE FROM stock_level WHERE tenant_id = :tenant AND variant_id = ANY(:variants) AND movements = 0
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))


async def write(
    session: TenantSession, product: Product, wanted: Sequence[VariantChange], *, whole: bool, by: Actor
) -> set[UUID]:
    """Make variants of a product that the caller holds what is wanted; return which were made, changed or removed.

    They are known by their SKUs. With `whole` those not named go: what is in use is archived, the rest deleted.

    Raises:
        ConflictError: a SKU is another product's, or there would be too many.
    """
    before = {row.sku: row for row in await _held(session, product.id)}
    place = max((row.position for row in before.values()), default=-1) + 1
    rows: dict[str, dict[str, Any]] = {}
    for number, change in enumerate(wanted):
        old = before.get(change.sku or "")
        position = number if whole else old.position if old is not None else place
        place += not whole and old is None
        values = _after(old, change, whole=whole, path=f"variants.{number}.")
        rows[change.sku or ""] = {**values, "position": position}
    gone = [row for sku, row in before.items() if sku not in rows] if whole else []
    used = {row.id for row in await _used(session, [row.id for row in gone]) if row.reason}
    for row in gone:
        if row.id in used:
            rows[row.sku] = {name: getattr(row, name) for name in _OWN} | {"active": False, "position": len(rows)}
    if len(before.keys() | rows.keys()) - (len(gone) - len(used)) > MAX_VARIANTS:
        raise ConflictError(f"A product can have at most {MAX_VARIANTS} variants.")
    changed = {
        sku: values
        for sku, values in rows.items()
        if sku not in before or any(not _same(getattr(before[sku], name), values[name]) for name in _OWN)
    }
    old = {sku: {name: getattr(row, name) for name in _OWN} for sku, row in before.items()}
    ids = {sku: row.id for sku, row in before.items()} | await _save(session, product.id, changed)
    _refuse_taken(changed, ids, wanted)
    removed = [row for row in gone if row.id not in used]
    await delete_all(session, removed, by=by)
    await _report(session, product.id, {sku: ids[sku] for sku in changed}, old, changed, by=by)
    new = {ids[sku] for sku in changed if sku not in before}
    costs = {ids[one.sku or ""]: one.prices for one in wanted if one.prices is not None}
    if whole:
        costs = {ids[one.sku or ""]: one.prices or () for one in wanted}
    repriced = await prices.write(session, costs, whole=True, by=by, new=new)
    return {ids[sku] for sku in changed} | repriced | {row.id for row in removed}


async def add(session: TenantSession, product_id: UUID, change: VariantChange, *, by: Actor) -> Variant:
    """Add a variant to a product.

    Raises:
        NotFoundError: no such product in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: the SKU is taken, or there are too many.
    """
    change = change.normalized()
    if change.sku is None:
        raise InvalidError.of("sku", "is needed")
    product = await session.get(
        Product, (session.tenant_id, product_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if product is None:
        raise NotFoundError("No such product.")
    if await session.scalar(
        select(Variant.id).where(Variant.tenant_id == session.tenant_id, Variant.sku == change.sku)
    ):
        raise _taken(change.sku, "sku")
    await write(session, product, [change], whole=False, by=by)
    await product_words.index(session, [product_id])
    return await by_sku(session, change.sku)


async def update(session: TenantSession, variant_id: UUID, change: VariantChange, *, by: Actor) -> Variant:
    """Change a variant.

    Raises:
        NotFoundError: no such variant in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: the SKU is taken.
    """
    change = change.normalized()
    variant = await _held_with_product(session, variant_id)
    before = {name: getattr(variant, name) for name in _OWN}
    after = {**_after(variant, change, whole=False, path=""), "position": variant.position}
    after["sku"] = change.sku or variant.sku
    differing = {name: after[name] for name in _OWN if not _same(before[name], after[name])}
    if differing:
        try:
            async with session.begin_nested():
                for name, value in differing.items():
                    setattr(variant, name, value)
                variant.updated_at = func.now()
                await session.flush()
        except IntegrityError as error:
            raise _taken(after["sku"], "sku") from error
        await session.refresh(variant)
        sku = variant.sku
        await product_words.index(session, [variant.product_id])
        await _report(session, variant.product_id, {sku: variant.id}, {sku: before}, {sku: after}, by=by)
    if change.prices is not None:
        await prices.write(session, {variant.id: change.prices}, whole=True, by=by)
    return variant


async def remove(session: TenantSession, variant_id: UUID, *, by: Actor) -> None:
    """Delete a variant that was never sold or stocked.

    Raises:
        NotFoundError: no such variant in this tenant.
        ConflictError: it is in use, so it can only be archived; or it is its product's only one.
    """
    variant = await _held_with_product(session, variant_id)
    if len(await _held(session, variant.product_id)) == 1:
        raise ConflictError("A product has one variant at least: delete the product.")
    await check_unused(session, [variant_id])
    await delete_all(session, [variant], by=by)
    await product_words.index(session, [variant.product_id])


async def delete_all(session: TenantSession, gone: Sequence[Variant], *, by: Actor) -> None:
    """Delete variants that the caller holds and that are not in use."""
    if not gone:
        return
    ids = [row.id for row in gone]
    await session.execute(_UNSTOCK, {"tenant": session.tenant_id, "variants": ids})
    await session.execute(delete(Variant).where(Variant.tenant_id == session.tenant_id, Variant.id.in_(ids)))
    await activity.record_all(
        session,
        [activity.NewActivity("variant", row.id, VARIANT_DELETED, {"sku": (row.sku, None)}) for row in gone],
        by=by,
    )
    await publish(
        session,
        [
            NewEvent(
                VARIANT_DELETED,
                row.id,
                subject_type="variant",
                properties={"product_id": str(row.product_id), "sku": row.sku},
            )
            for row in gone
        ],
    )


async def check_unused(session: TenantSession, variant_ids: Sequence[UUID]) -> None:
    """Refuse to have variants deleted that are in orders, carts or the ledger.

    Raises:
        ConflictError: naming each by its SKU.
    """
    used = [row for row in await _used(session, variant_ids) if row.reason]
    if used:
        raise ConflictError(
            "What was sold or stocked cannot be deleted, but archived: set a variant's `active` to false, or a"
            " product's `status` to archived.",
            errors=[FieldProblem(row.sku, row.reason) for row in used],
        )


async def get(session: TenantSession, variant_id: UUID) -> Variant:
    """Return a variant.

    Raises:
        NotFoundError: no such variant in this tenant.
    """
    found = await session.get(Variant, (session.tenant_id, variant_id), populate_existing=True)
    if found is None:
        raise NotFoundError("No such variant.")
    return found


async def by_sku(session: TenantSession, sku: str) -> Variant:
    """Return the variant with this SKU.

    Raises:
        NotFoundError: no such variant in this tenant.
    """
    found = await session.scalar(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.sku == sku)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFoundError("No such variant.")
    return found


async def of_product(session: TenantSession, product_id: UUID) -> Sequence[Variant]:
    """Return the variants of a product, in their order."""
    rows = await session.scalars(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.product_id == product_id)
        .order_by(Variant.position, Variant.id)
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def _held(session: TenantSession, product_id: UUID) -> Sequence[Variant]:
    rows = await session.scalars(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.product_id == product_id)
        .order_by(Variant.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return rows.all()


async def _held_with_product(session: TenantSession, variant_id: UUID) -> Variant:
    """Return a variant, held; its product is first, as for whoever changes the product."""
    found = await get(session, variant_id)
    await session.get(
        Product, (session.tenant_id, found.product_id), with_for_update={"key_share": True}, populate_existing=True
    )
    held = await session.get(
        Variant, (session.tenant_id, variant_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if held is None:
        raise NotFoundError("No such variant.")
    return held


def _after(old: Variant | None, change: VariantChange, *, whole: bool, path: str) -> dict[str, Any]:
    """Return what a variant is to be, without its position."""
    base = DEFAULTS if whole or old is None else {name: getattr(old, name) for name in DEFAULTS}
    values = {**base, **change.fields, "sku": change.sku}
    values["options"] = values["options"] or {}
    kept: Mapping[str, Any] = base["attributes"]
    values["attributes"] = merged(kept, change.attributes or {}, f"{path}attributes")
    return values


def _same(one: object, other: object) -> bool:
    return one == other and type(one) is type(other)


async def _save(session: TenantSession, product_id: UUID, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, UUID]:
    """Write variants by their SKUs, in one statement; return the ids of those that are this product's."""
    if not rows:
        return {}
    statement = insert(Variant).values(
        [
            {"tenant_id": session.tenant_id, "id": new_id(), "product_id": product_id, **values}
            for _, values in sorted(rows.items())
        ]
    )
    given = statement.excluded
    written = await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "sku"],
            set_={name: given[name] for name in _OWN if name != "sku"} | {"updated_at": func.now()},
            where=Variant.product_id == given.product_id,
        ).returning(Variant.sku, Variant.id)
    )
    return {row.sku: row.id for row in written}


def _refuse_taken(changed: Collection[str], ids: Mapping[str, UUID], wanted: Sequence[VariantChange]) -> None:
    problems = [
        FieldProblem(f"variants.{number}.sku", "is another product's")
        for number, one in enumerate(wanted)
        if one.sku in changed and one.sku not in ids
    ]
    if problems:
        raise ConflictError("A SKU is of another product.", errors=problems)


def _taken(sku: str, path: str) -> ConflictError:
    return ConflictError(f"There is a variant with the SKU {sku} already.", errors=[FieldProblem(path, "is taken")])


async def _used(session: TenantSession, variant_ids: Sequence[UUID]) -> Sequence[Any]:
    """Return of each whether it is in use, and by what; they cannot become so until the transaction ends."""
    if not variant_ids:
        return []
    held = select(Variant.id).where(Variant.tenant_id == session.tenant_id, Variant.id.in_(variant_ids))
    await session.execute(held.order_by(Variant.id).with_for_update())
    return (await session.execute(_USED, {"tenant": session.tenant_id, "variants": list(variant_ids)})).all()


async def _report(
    session: TenantSession,
    product_id: UUID,
    ids: Mapping[str, UUID],
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    *,
    by: Actor,
) -> None:
    logged: list[activity.NewActivity] = []
    events: list[NewEvent] = []
    for sku, values in after.items():
        old = before.get(sku)
        changes = {
            name: (None if old is None else old[name], values[name])
            for name in _OWN
            if (old is None and values[name] not in (None, {})) or (old is not None and old[name] != values[name])
        }
        kind = VARIANT_CREATED if old is None else VARIANT_UPDATED
        about: dict[str, Any] = {"product_id": str(product_id), "sku": sku}
        if old is not None:
            about["fields"] = sorted(changes)
        logged.append(activity.NewActivity("variant", ids[sku], kind, changes))
        events.append(NewEvent(kind, ids[sku], subject_type="variant", properties=about))
    await activity.record_all(session, logged, by=by)
    await publish(session, events)
