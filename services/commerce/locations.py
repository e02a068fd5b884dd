"""The places that pieces lie in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, func, select, text
from sqlalchemy.dialects.postgresql import insert

from contracts.events import LOCATION_CREATED, LOCATION_DELETED, LOCATION_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, NotFoundError
from core.ids import new_id
from models import Reservation, StockLevel, StockLocation
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_LOCATIONS: Final = 1_000
FIRST: Final = "main"
"""The key of the location that a tenant's first stock is booked to where it has made none."""

_UNSTOCK: Final = text("""
    DELETE FROM stock_level
    WHERE tenant_id = :tenant AND location_id = :location AND movements = 0 AND reserved = 0
""")


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> StockLocation:
    """Add a location, of `key`, `name`, `position` and `active`.

    Raises:
        ConflictError: the key is taken, or there are too many.
    """
    count = await session.scalar(
        select(func.count()).select_from(StockLocation).where(StockLocation.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_LOCATIONS:
        raise ConflictError(f"There can be at most {MAX_LOCATIONS} locations.")
    row = await session.scalar(
        insert(StockLocation)
        .values(tenant_id=session.tenant_id, id=new_id(), **fields)
        .on_conflict_do_nothing()
        .returning(StockLocation)
    )
    if row is None:
        raise _taken(fields["key"])
    await _report(session, row, LOCATION_CREATED, {name: (None, value) for name, value in fields.items()}, by=by)
    return row


async def update(session: TenantSession, location_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> StockLocation:
    """Change a location. Pieces in one that is not active are not sold.

    Raises:
        NotFoundError: no such location in this tenant.
        ConflictError: the key is taken.
    """
    row = await get(session, location_id, lock=True)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    if "key" in changes and await session.scalar(
        select(exists().where(StockLocation.tenant_id == session.tenant_id, StockLocation.key == fields["key"]))
    ):
        raise _taken(fields["key"])
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    await session.flush()
    await _report(session, row, LOCATION_UPDATED, changes, by=by)
    return row


async def remove(session: TenantSession, location_id: UUID, *, by: Actor) -> None:
    """Delete a location that nothing was ever booked to.

    Raises:
        NotFoundError: no such location in this tenant.
        ConflictError: its ledger has entries, or pieces are held there.
    """
    row = await get(session, location_id, lock=True)
    await session.execute(_UNSTOCK, {"tenant": session.tenant_id, "location": location_id})
    for table in (StockLevel, Reservation):
        if await session.scalar(
            select(exists().where(table.tenant_id == session.tenant_id, table.location_id == location_id))
        ):
            raise ConflictError("The location's ledger has entries, which are never deleted: set `active` to false.")
    await session.delete(row)
    await session.flush()
    await _report(session, row, LOCATION_DELETED, {"key": (row.key, None)}, by=by)


async def get(session: TenantSession, location_id: UUID, *, lock: bool = False) -> StockLocation:
    """Return a location.

    Raises:
        NotFoundError: no such location in this tenant.
    """
    row = await session.get(
        StockLocation, (session.tenant_id, location_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such location.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[StockLocation]:
    """Return up to `limit` locations, oldest first, those made after `after` only."""
    statement = select(StockLocation).where(StockLocation.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(StockLocation.id > after)
    return (await session.scalars(statement.order_by(StockLocation.id).limit(limit))).all()


async def first(session: TenantSession, *, by: Actor) -> UUID:
    """Return the location that pieces are booked to where none is named; a tenant that has none gets one.

    Raises:
        ConflictError: none is active, nor is the one that would be made.
    """
    found = await session.scalar(
        select(StockLocation.id)
        .where(StockLocation.tenant_id == session.tenant_id, StockLocation.active)
        .order_by(StockLocation.position, StockLocation.id)
        .limit(1)
    )
    if found is not None:
        return found
    made = await session.scalar(
        insert(StockLocation)
        .values(tenant_id=session.tenant_id, id=new_id(), key=FIRST, name="Main")
        .on_conflict_do_nothing()
        .returning(StockLocation)
    )
    if made is None:
        row = await session.scalar(
            select(StockLocation).where(StockLocation.tenant_id == session.tenant_id, StockLocation.key == FIRST)
        )
        if row is None or not row.active:
            raise ConflictError("No location is active: name the one that is meant.")
        return row.id  # another request has just made it
    await _report(session, made, LOCATION_CREATED, {"key": (None, FIRST), "name": (None, "Main")}, by=by)
    return made.id


def _taken(key: str) -> ConflictError:
    return ConflictError(f"There is a location with the key {key} already.", errors=[FieldProblem("key", "is taken")])


async def _report(
    session: TenantSession, row: StockLocation, kind: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(session, by=by, subject_type="stock_location", subject_id=row.id, type=kind, changes=changes)
    properties = {"key": row.key, "fields": sorted(changes)}
    await publish(session, [NewEvent(kind, row.id, subject_type="stock_location", properties=properties)])
