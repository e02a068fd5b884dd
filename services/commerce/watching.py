"""Who wants to hear of a variant: that it is back in stock, or costs less."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Uuid

from contracts.events import PRICE_DROPPED, STOCK_BACK
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from models import Person, Variant, VariantWatch
from services.events.publish import NewEvent, publish
from services.identity import people
from services.shared import activity

MAX_WATCHES: Final = 500
"""Of one person."""
KIND_OF: Final = {STOCK_BACK: "stock", PRICE_DROPPED: "price"}

_DESCRIBED: Final = text("""
    SELECT v.id, v.sku, v.product_id, p.key AS product, p.name, v.name AS variant
    FROM variant v JOIN product p ON p.tenant_id = :tenant AND p.id = v.product_id
    WHERE v.tenant_id = :tenant AND v.id = ANY(:variants)
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))
# Somebody who asked for stock hears of it once; who asked for a price hears of each drop.
_DONE: Final = text("""
    DELETE FROM variant_watch
    WHERE tenant_id = :tenant AND kind = 'stock' AND variant_id = ANY(:variants)
    RETURNING variant_id, person_id
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))
_WATCHERS: Final = text("""
    SELECT variant_id, person_id FROM variant_watch
    WHERE tenant_id = :tenant AND kind = 'price' AND variant_id = ANY(:variants)
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))


async def watch(session: TenantSession, person_id: UUID, variant_id: UUID, kind: str, *, by: Actor) -> VariantWatch:
    """Have a person hear of a variant; asked for twice it is one watch.

    Raises:
        NotFoundError: no such person or variant in this tenant.
        ConflictError: they watch too many.
    """
    person = await _held(session, person_id)
    count = select(func.count()).select_from(VariantWatch)
    mine = await session.scalar(
        count.where(VariantWatch.tenant_id == session.tenant_id, VariantWatch.person_id == person)
    )
    if (mine or 0) >= MAX_WATCHES:
        raise ConflictError(f"A person can watch at most {MAX_WATCHES} things.")
    variant = await session.get(Variant, (session.tenant_id, variant_id), with_for_update={"read": True})
    if variant is None:
        raise NotFoundError("No such variant.")
    values = {"tenant_id": session.tenant_id, "variant_id": variant_id, "kind": kind, "person_id": person}
    made = await session.scalar(
        insert(VariantWatch).values(values).on_conflict_do_nothing().returning(VariantWatch.created_at)
    )
    if made is not None:
        await _log(session, person, "person.watch_added", {kind: (None, variant.sku)}, by=by)
    found = await session.get(VariantWatch, (session.tenant_id, variant_id, kind, person), populate_existing=True)
    if found is None:  # told, and so ended, between the two
        raise NotFoundError("The watch has ended.")
    return found


async def unwatch(session: TenantSession, person_id: UUID, variant_id: UUID, kind: str, *, by: Actor) -> None:
    """Have a person not hear of a variant any more.

    Raises:
        NotFoundError: no such person in this tenant, or they do not watch it.
    """
    person = (await people.get(session, person_id)).id
    mine = VariantWatch.person_id == person
    gone = await session.scalar(
        delete(VariantWatch)
        .where(VariantWatch.tenant_id == session.tenant_id, mine, VariantWatch.variant_id == variant_id)
        .where(VariantWatch.kind == kind)
        .returning(VariantWatch.variant_id)
    )
    if gone is None:
        raise NotFoundError("They do not watch this variant.")
    await _log(session, person, "person.watch_removed", {kind: (str(variant_id), None)}, by=by)


async def of_person(session: TenantSession, person_id: UUID) -> list[VariantWatch]:
    """Return what a person watches.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    person = (await people.get(session, person_id)).id
    rows = await session.scalars(
        select(VariantWatch)
        .where(VariantWatch.tenant_id == session.tenant_id, VariantWatch.person_id == person)
        .order_by(VariantWatch.variant_id, VariantWatch.kind)
    )
    return list(rows)


async def of_variant(
    session: TenantSession, variant_id: UUID, *, kind: str | None, limit: int, after: tuple[str, UUID] | None
) -> list[VariantWatch]:
    """Return up to `limit` watches of a variant, in the order of kind and person, those behind `after` only."""
    statement = select(VariantWatch).where(
        VariantWatch.tenant_id == session.tenant_id, VariantWatch.variant_id == variant_id
    )
    if kind is not None:
        statement = statement.where(VariantWatch.kind == kind)
    if after is not None:
        # spelled out: rows are compared by an operator that uses no index under row-level security
        statement = statement.where(
            VariantWatch.kind >= after[0], (VariantWatch.kind > after[0]) | (VariantWatch.person_id > after[1])
        )
    return list(await session.scalars(statement.order_by(VariantWatch.kind, VariantWatch.person_id).limit(limit)))


async def tell(session: TenantSession, event: str, variants: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Publish `stock.back` or `price.dropped`: once about each variant, and once about each person who watches it.

    Each variant comes with further properties of its events.
    """
    if not variants:
        return
    values = {"tenant": session.tenant_id, "variants": sorted(variants)}
    properties: dict[UUID, dict[str, Any]] = {
        row.id: {
            "variant_id": str(row.id),
            "sku": row.sku,
            "product_id": str(row.product_id),
            "product": row.product,
            "name": " ".join(filter(None, (row.name, row.variant))),
            **variants[row.id],
        }
        for row in await session.execute(_DESCRIBED, values)
    }
    watchers = await session.execute(_DONE if KIND_OF[event] == "stock" else _WATCHERS, values)
    told = sorted((row.variant_id, row.person_id) for row in watchers)
    await publish(
        session,
        [
            NewEvent(event, variant, subject_type="variant", properties=about)
            for variant, about in sorted(properties.items())
        ]
        + [NewEvent(event, person, properties=properties[variant]) for variant, person in told],
    )


async def _held(session: TenantSession, person_id: UUID) -> UUID:
    """Return the id of the person, who cannot be merged or erased meanwhile."""
    found = (await people.get(session, person_id)).id
    held = await session.scalar(
        select(Person.id)
        .where(Person.tenant_id == session.tenant_id, Person.id == found)
        .with_for_update(read=True, key_share=True)
    )
    if held is None:
        raise NotFoundError("No such person.")
    return found


async def _log(session: TenantSession, person_id: UUID, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="person", subject_id=person_id, type=verb, changes=changes)
