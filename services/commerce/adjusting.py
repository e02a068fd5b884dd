"""Stock as people correct it: pieces that came or went, or were counted anew; many variants and places at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import StockMovement, Variant
from services.commerce import levels, locations, stock
from services.commerce.levels import Levels
from services.commerce.stock import NewMovement

KINDS: Final = ("receive", "adjust", "return")
"""Shipping is the orders' business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A correction of a level: by `delta`, or to `counted`."""

    variant_id: UUID | None = None
    sku: str | None = None
    """Either of the two names the variant."""
    location_id: UUID | None = None
    """None: the tenant's first."""
    delta: int | None = None
    counted: int | None = None
    """How many pieces there are."""
    kind: str = "adjust"
    """One of `KINDS`; a count is an `adjust`."""
    reference: str | None = None
    """What it stands for, such as `delivery:4711`: with its kind, variant and location it is booked once."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A level after a correction."""

    variant_id: UUID
    sku: str
    location_id: UUID
    movement: StockMovement | None
    """None where the count was right."""
    on_hand: int
    reserved: int


async def adjust(session: TenantSession, adjustments: Sequence[Adjustment], *, by: Actor) -> list[Adjusted]:
    """Correct levels, all or none.

    Raises:
        InvalidError: a variant or location is not known, a stock is not counted at all, or two are about one level;
            every field at fault is named.
        ConflictError: fewer pieces would be left than are held for orders and checkouts, or less than none; or a
            reference was booked with another quantity.
    """
    if len(adjustments) > stock.MAX_MOVEMENTS:
        raise InvalidError.of("adjustments", f"may be at most {stock.MAX_MOVEMENTS}")
    if not adjustments:
        return []
    variants, keys = await _resolved(session, adjustments, by=by)
    return await _book(session, adjustments, variants, keys, by=by)


async def _resolved(
    session: TenantSession, adjustments: Sequence[Adjustment], *, by: Actor
) -> tuple[list[Variant], list[tuple[UUID, UUID]]]:
    """Return the variant and the level of each, held against being deleted."""
    found = await _variants(session, adjustments)
    first = await locations.first(session, by=by) if any(one.location_id is None for one in adjustments) else None
    places = [one.location_id or first for one in adjustments]
    known = await stock.known_locations(session, {place for place in places if place is not None})
    problems: list[FieldProblem] = []
    variants: list[Variant] = []
    keys: list[tuple[UUID, UUID]] = []
    for number, (one, variant, place) in enumerate(zip(adjustments, found, places, strict=True)):
        path = f"adjustments.{number}"
        problems += _problems(one, path)
        if place not in known:
            problems.append(FieldProblem(f"{path}.location_id", "is not known"))
        if variant is None:
            problems.append(FieldProblem(f"{path}.{'variant_id' if one.sku is None else 'sku'}", "is not known"))
            continue
        if not variant.tracked:
            problems.append(FieldProblem(path, f"is about {variant.sku}, whose stock is not counted (`tracked`)"))
        if place is not None:
            variants.append(variant)
            keys.append((variant.id, place))
            if keys.count(keys[-1]) > 1:
                problems.append(FieldProblem(path, "is about the same variant and location as one before it"))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    return variants, keys


async def _book(
    session: TenantSession,
    adjustments: Sequence[Adjustment],
    variants: Sequence[Variant],
    keys: Sequence[tuple[UUID, UUID]],
    *,
    by: Actor,
) -> list[Adjusted]:
    held = await levels.lock(session, [variant.id for variant in variants], opening=keys)
    before = await stock.booked_as(session, [one.reference for one in adjustments if one.reference is not None])
    moves: dict[int, NewMovement] = {}
    problems: list[FieldProblem] = []
    for number, (one, variant, key) in enumerate(zip(adjustments, variants, keys, strict=True)):
        known = before.get((one.reference, one.kind, *key)) if one.reference is not None else None
        quantity = _quantity(one, held, key, known)
        if quantity == 0:
            continue
        if known is not None and known.quantity != quantity:
            reason = f"is not the {known.quantity} that {one.reference} was booked with before"
            problems.append(FieldProblem(f"adjustments.{number}.delta", reason))
        if known is None:
            problems += _problems_of_level(one, quantity, held, key, variant, f"adjustments.{number}")
        moves[number] = NewMovement(
            variant_id=key[0],
            location_id=key[1],
            kind=one.kind,
            quantity=quantity,
            reference=one.reference,
            note=one.note,
        )
    if problems:
        raise ConflictError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    entries = dict(zip(moves, await stock.enter(session, held, list(moves.values()), by=by), strict=True))
    await held.save(session)
    return [
        Adjusted(
            variant.id,
            variant.sku,
            key[1],
            entries.get(number),
            held.at(*key).on_hand,
            held.at(*key).reserved,
        )
        for number, (variant, key) in enumerate(zip(variants, keys, strict=True))
    ]


def _quantity(one: Adjustment, held: Levels, key: tuple[UUID, UUID], known: StockMovement | None) -> int:
    if one.counted is None:
        return one.delta or 0
    # what was counted before is booked; the level has gone on since
    return known.quantity if known is not None else one.counted - held.at(*key).on_hand


def _problems(one: Adjustment, path: str) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    if (one.variant_id is None) == (one.sku is None):
        problems.append(FieldProblem(path, "must name its variant by variant_id or by sku"))
    if (one.delta is None) == (one.counted is None):
        problems.append(FieldProblem(path, "must have either delta or counted"))
    if one.kind not in KINDS:
        problems.append(FieldProblem(f"{path}.kind", f"must be one of {', '.join(KINDS)}"))
    if one.delta == 0:
        problems.append(FieldProblem(f"{path}.delta", "must not be zero"))
    if abs(one.delta or 0) > stock.MAX_PIECES:
        problems.append(FieldProblem(f"{path}.delta", f"must be at most {stock.MAX_PIECES}"))
    if one.kind != "adjust" and one.counted is not None:
        problems.append(FieldProblem(f"{path}.kind", "must be adjust of what was counted"))
    if one.kind != "adjust" and (one.delta or 0) < 0:
        problems.append(FieldProblem(f"{path}.delta", f"must be more than zero, as a {one.kind} adds pieces"))
    if one.counted is not None and not 0 <= one.counted <= stock.MAX_PIECES:
        problems.append(FieldProblem(f"{path}.counted", f"must be from 0 to {stock.MAX_PIECES}"))
    return problems


def _problems_of_level(
    one: Adjustment,
    quantity: int,
    held: Levels,
    key: tuple[UUID, UUID],
    variant: Variant,
    path: str,
) -> list[FieldProblem]:
    level = held.at(*key)
    field = f"{path}.{'delta' if one.counted is None else 'counted'}"
    left = level.on_hand + quantity
    if left < 0:
        return [FieldProblem(field, f"takes away more than the {level.on_hand} on hand")]
    if left > stock.MAX_PIECES:
        return [FieldProblem(field, f"would make more than {stock.MAX_PIECES} pieces")]
    if quantity < 0 and left < level.reserved and not variant.backorder:
        return [FieldProblem(field, f"would leave {left}, and {level.reserved} are held for orders and checkouts")]
    return []


async def _variants(session: TenantSession, adjustments: Sequence[Adjustment]) -> list[Variant | None]:
    """Return the variant of each, held against being deleted."""
    ids = {one.variant_id for one in adjustments if one.variant_id is not None}
    skus = {one.sku for one in adjustments if one.sku is not None}
    rows = (
        await session.scalars(
            select(Variant)
            .where(Variant.tenant_id == session.tenant_id, Variant.id.in_(ids) | Variant.sku.in_(skus))
            .order_by(Variant.id)
            .with_for_update(read=True, key_share=True)
            .execution_options(populate_existing=True)
        )
    ).all()
    by_id, by_sku = {row.id: row for row in rows}, {row.sku: row for row in rows}
    return [
        by_sku.get(one.sku) if one.sku is not None else by_id.get(one.variant_id) if one.variant_id else None
        for one in adjustments
    ]
