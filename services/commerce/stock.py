"""The ledger of stock: pieces come in, are counted anew, go out and come back; entries are never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select

from contracts.events import STOCK_BOOKED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from core.ids import new_ids
from models import StockLocation, StockMovement, Variant
from models.stock import MOVEMENT_KINDS
from services.commerce import levels
from services.commerce.levels import Levels
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_MOVEMENTS: Final = 500
"""Booked at once."""
MAX_PIECES: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMovement:
    """Something to book."""

    variant_id: UUID
    location_id: UUID
    kind: str
    """`receive` and `return` add pieces, `ship` takes them away, `adjust` does either."""
    quantity: int
    """What it adds to the pieces on hand; never zero."""
    reference: str | None = None
    """What it stands for; with its kind, variant and location it is booked once."""
    note: str | None = None

    @property
    def key(self) -> tuple[UUID, UUID]:
        """The level it is booked to."""
        return self.variant_id, self.location_id


async def book(session: TenantSession, movements: Sequence[NewMovement], *, by: Actor) -> list[StockMovement]:
    """Book movements, all or none; return the entries in their order, for what was booked before the first one.

    Raises:
        InvalidError: a quantity does not fit its kind, or a variant or location is not of this tenant.
        ConflictError: there are fewer pieces than it takes away, or its reference was booked with another quantity.
    """
    if not movements:
        return []
    _check(movements)
    await _check_known(session, movements)
    held = await levels.lock(session, [one.variant_id for one in movements], opening=[one.key for one in movements])
    booked = await enter(session, held, movements, by=by)
    await held.save(session)
    return booked


async def enter(
    session: TenantSession, held: Levels, movements: Sequence[NewMovement], *, by: Actor
) -> list[StockMovement]:
    """Write entries to the ledger of levels that are held; the caller saves the levels.

    Raises:
        ConflictError: as `book`.
    """
    before = await booked_as(session, [one.reference for one in movements if one.reference is not None])
    entries: list[StockMovement] = []
    ids = new_ids(len(movements))
    for number, one in enumerate(movements):
        known = None if one.reference is None else before.get((one.reference, one.kind, *one.key))
        if known is not None:
            _check_same(known, one, number)
            entries.append(known)
            continue
        level = held.at(*one.key)
        if level.on_hand + one.quantity < 0:
            raise _too_few(number, level.on_hand)
        if level.on_hand + one.quantity > MAX_PIECES:
            raise InvalidError.of(_field(number), f"would make more than {MAX_PIECES} pieces")
        level.on_hand += one.quantity
        level.movements += 1
        entry = StockMovement(
            tenant_id=session.tenant_id,
            id=ids[number],
            variant_id=one.variant_id,
            location_id=one.location_id,
            number=level.movements,
            kind=one.kind,
            quantity=one.quantity,
            on_hand=level.on_hand,
            reference=one.reference,
            note=one.note,
            actor=by.name,
        )
        if one.reference is not None:
            before[one.reference, one.kind, one.variant_id, one.location_id] = entry
        entries.append(entry)
    new = [entry for entry in dict.fromkeys(entries) if entry not in session]
    session.add_all(new)
    await session.flush()
    await _report(session, new, by=by)
    return entries


async def booked_as(
    session: TenantSession, references: Sequence[str]
) -> dict[tuple[str | None, str, UUID, UUID], StockMovement]:
    """Return the entries that stand for these references, by reference, kind, variant and location."""
    if not references:
        return {}
    rows = await session.scalars(
        select(StockMovement).where(
            StockMovement.tenant_id == session.tenant_id, StockMovement.reference.in_(sorted(set(references)))
        )
    )
    return {(row.reference, row.kind, row.variant_id, row.location_id): row for row in rows}


def _field(number: int) -> str:
    return f"movements.{number}.quantity"


def _check(movements: Sequence[NewMovement]) -> None:
    if len(movements) > MAX_MOVEMENTS:
        raise InvalidError.of("movements", f"must be at most {MAX_MOVEMENTS}")
    for number, one in enumerate(movements):
        if one.kind not in MOVEMENT_KINDS:
            raise InvalidError.of(f"movements.{number}.kind", f"must be one of {', '.join(MOVEMENT_KINDS)}")
        if one.quantity == 0:
            raise InvalidError.of(_field(number), "must not be zero")
        if abs(one.quantity) > MAX_PIECES:
            raise InvalidError.of(_field(number), f"must be at most {MAX_PIECES}")
        if one.kind in {"receive", "return"} and one.quantity < 0:
            raise InvalidError.of(_field(number), f"must be more than zero, as a {one.kind} adds pieces")
        if one.kind == "ship" and one.quantity > 0:
            raise InvalidError.of(_field(number), "must be less than zero, as a ship takes pieces away")


async def known_locations(session: TenantSession, ids: set[UUID]) -> set[UUID]:
    """Return which are there, and stay until the transaction ends."""
    return await _known(session, StockLocation, ids)


async def _check_known(session: TenantSession, movements: Sequence[NewMovement]) -> None:
    variants = await _known(session, Variant, {one.variant_id for one in movements})
    locations = await known_locations(session, {one.location_id for one in movements})
    errors = [
        FieldProblem(f"movements.{number}.{name}", "is not known")
        for number, one in enumerate(movements)
        for name, known in (
            ("variant_id", one.variant_id in variants),
            ("location_id", one.location_id in locations),
        )
        if not known
    ]
    if errors:
        raise InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors)


async def _known(session: TenantSession, table: type[Variant | StockLocation], ids: set[UUID]) -> set[UUID]:
    """Return which are there, and stay until the transaction ends."""
    rows = await session.scalars(
        select(table.id)
        .where(table.tenant_id == session.tenant_id, table.id.in_(ids))
        .order_by(table.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(rows)


def _check_same(known: StockMovement, one: NewMovement, number: int) -> None:
    if known.quantity != one.quantity:
        raise ConflictError(
            f"The {one.kind} {one.reference} was booked before with {known.quantity} pieces.",
            errors=[FieldProblem(_field(number), f"is not the {known.quantity} of entry {known.number}")],
        )


def _too_few(number: int, on_hand: int) -> ConflictError:
    return ConflictError(
        f"There are only {on_hand} pieces on hand.",
        errors=[FieldProblem(_field(number), f"takes away more than the {on_hand} on hand")],
    )


async def _report(session: TenantSession, new: Sequence[StockMovement], *, by: Actor) -> None:
    await activity.record_all(
        session,
        [
            activity.NewActivity(
                "variant",
                entry.variant_id,
                STOCK_BOOKED,
                {"on_hand": (entry.on_hand - entry.quantity, entry.on_hand), **_shown(entry)},
            )
            for entry in new
        ],
        by=by,
    )
    await publish(
        session,
        [
            NewEvent(
                STOCK_BOOKED,
                entry.variant_id,
                subject_type="variant",
                properties={
                    "movement_id": str(entry.id),
                    "location_id": str(entry.location_id),
                    "kind": entry.kind,
                    "quantity": entry.quantity,
                    "on_hand": entry.on_hand,
                },
            )
            for entry in new
        ],
    )


def _shown(entry: StockMovement) -> Mapping[str, tuple[None, str | int]]:
    shown: dict[str, tuple[None, str | int]] = {
        "kind": (None, entry.kind),
        "location_id": (None, str(entry.location_id)),
        "entry": (None, entry.number),
    }
    if entry.reference is not None:
        shown["reference"] = (None, entry.reference)
    return shown
