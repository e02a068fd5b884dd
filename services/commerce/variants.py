"""Variants of products: written together with their product or one at a time, archived or deleted, and found."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.types import Uuid

from contracts.events import VARIANT_CREATED, VARIANT_DELETED, VARIANT_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from models import Product, Variant
from services.commerce import prices, product_words, variant_rows
from services.commerce.product_fields import VariantChange
from services.events.publish import NewEvent, publish
from services.shared import activity

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
    return (await write_all(session, {product.id: wanted}, whole=whole, by=by))[product.id]


async def write_all(
    session: TenantSession, wanted: Mapping[UUID, Sequence[VariantChange]], *, whole: bool, by: Actor
) -> dict[UUID, set[UUID]]:
    """Do what `write` does for several products that the caller holds, in as few statements as for one.

    Raises:
        ConflictError: as `write`.
    """
    before: dict[UUID, dict[str, Variant]] = {product_id: {} for product_id in wanted}
    for row in await _held(session, sorted(wanted)):
        before[row.product_id][row.sku] = row
    gone = [
        row
        for product_id, changes in wanted.items()
        for sku, row in before[product_id].items()
        if whole and sku not in {one.sku for one in changes}
    ]
    used = {row.id for row in await _used(session, [row.id for row in gone]) if row.reason}
    changed: dict[variant_rows.Key, dict[str, Any]] = {}
    for product_id, changes in wanted.items():
        rows = variant_rows.planned(before[product_id], changes, used, whole=whole)
        for sku, values in rows.items():
            old = before[product_id].get(sku)
            if old is None or any(not variant_rows.same(getattr(old, name), values[name]) for name in variant_rows.OWN):
                changed[product_id, sku] = values
    old = {
        (product_id, sku): {name: getattr(row, name) for name in variant_rows.OWN}
        for product_id, mine in before.items()
        for sku, row in mine.items()
    }
    ids = {(row.product_id, sku): row.id for mine in before.values() for sku, row in mine.items()}
    ids |= await variant_rows.save(session, changed)
    _refuse_taken(changed, ids, wanted)
    removed = [row for row in gone if row.id not in used]
    await delete_all(session, removed, by=by)
    await _report(session, ids, old, changed, by=by)
    costs = {
        ids[product_id, one.sku or ""]: one.prices or ()
        for product_id, changes in wanted.items()
        for one in changes
        if whole or one.prices is not None
    }
    new = {ids[key] for key in changed if key not in old}
    repriced = await prices.write(session, costs, whole=True, by=by, new=new)
    touched = {ids[key] for key in changed} | repriced
    moved: dict[UUID, set[UUID]] = {}
    for (product_id, _), variant_id in ids.items():
        if variant_id in touched:
            moved.setdefault(product_id, set()).add(variant_id)
    for row in removed:
        moved.setdefault(row.product_id, set()).add(row.id)
    return {product_id: moved.get(product_id, set()) for product_id in wanted}


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
    before = {name: getattr(variant, name) for name in variant_rows.OWN}
    after = {**variant_rows.after(variant, change, whole=False, path=""), "position": variant.position}
    after["sku"] = change.sku or variant.sku
    differing = {name: after[name] for name in variant_rows.OWN if not variant_rows.same(before[name], after[name])}
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
        await product_words.index(session, [variant.product_id])
        key = (variant.product_id, variant.sku)
        await _report(session, {key: variant.id}, {key: before}, {key: after}, by=by)
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
    if len(await _held(session, [variant.product_id])) == 1:
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


async def _held(session: TenantSession, product_ids: Sequence[UUID]) -> Sequence[Variant]:
    rows = await session.scalars(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.product_id.in_(product_ids))
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


def _refuse_taken(
    changed: Collection[variant_rows.Key],
    ids: Mapping[variant_rows.Key, UUID],
    wanted: Mapping[UUID, Sequence[VariantChange]],
) -> None:
    problems = [
        FieldProblem(f"variants.{number}.sku", "is another product's")
        for product_id, changes in wanted.items()
        for number, one in enumerate(changes)
        if (product_id, one.sku) in changed and (product_id, one.sku) not in ids
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
    ids: Mapping[variant_rows.Key, UUID],
    before: Mapping[variant_rows.Key, Mapping[str, Any]],
    after: Mapping[variant_rows.Key, Mapping[str, Any]],
    *,
    by: Actor,
) -> None:
    logged: list[activity.NewActivity] = []
    events: list[NewEvent] = []
    for key, values in after.items():
        old = before.get(key)
        changes = {
            name: (None if old is None else old[name], values[name])
            for name in variant_rows.OWN
            if (old is None and values[name] not in (None, {})) or (old is not None and old[name] != values[name])
        }
        kind = VARIANT_CREATED if old is None else VARIANT_UPDATED
        about: dict[str, Any] = {"product_id": str(key[0]), "sku": key[1]}
        if old is not None:
            about["fields"] = sorted(changes)
        logged.append(activity.NewActivity("variant", ids[key], kind, changes))
        events.append(NewEvent(kind, ids[key], subject_type="variant", properties=about))
    await activity.record_all(session, logged, by=by)
    await publish(session, events)
