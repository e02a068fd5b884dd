"""The types of events of a tenant: the platform's, with what the catalogue says of them, and its own.

What was seen is counted by the relay (`services.events.tally`), so nothing here reads events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from contracts.catalogue import CATALOGUE, EventType
from contracts.events import problem_with_type
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import EventTypeDay, EventTypeRow
from services.objects.schemas import problems_of
from services.shared import activity

MAX_DECLARED: Final = 500
"""Each process that takes events in keeps them ready."""
WINDOW: Final = timedelta(days=30)
MAX_DESCRIPTION: Final = 1_000

Origin = Literal["platform", "tenant"]


@dataclass(frozen=True, slots=True)
class Known:
    """A type of event."""

    type: str
    of_platform: EventType | None
    """What the catalogue says of it; None for a type of the tenant's own."""
    row: EventTypeRow | None
    """What was seen and declared of it."""
    recently: int
    """How many events of the last `WINDOW`, whole days in UTC."""


async def page(
    session: TenantSession, *, limit: int, after: str | None, origin: Origin | None = None, seen: bool | None = None
) -> list[Known]:
    """Return up to `limit` types in the order of their names, those behind `after` only.

    `origin` asks for the platform's or the tenant's own, `seen` for those of which there was an event, or was none.
    """
    names = [] if origin == "tenant" else [name for name in CATALOGUE if after is None or name > after]
    statement = select(EventTypeRow).where(EventTypeRow.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(EventTypeRow.type > after)
    if origin is not None:
        # as a list: names of the platform are few, and what the tenant calls its own may be many
        mine = EventTypeRow.type.not_in(list(CATALOGUE))
        statement = statement.where(mine if origin == "tenant" else EventTypeRow.type.in_(names))
    if seen is True:
        statement, names = statement.where(EventTypeRow.last_seen_at.is_not(None)), []
    elif seen is False and names:
        known = select(EventTypeRow.type).where(
            EventTypeRow.tenant_id == session.tenant_id,
            EventTypeRow.type.in_(names),
            EventTypeRow.last_seen_at.is_not(None),
        )
        gone = set(await session.scalars(known))
        names = [name for name in names if name not in gone]
    if seen is False:
        statement = statement.where(EventTypeRow.last_seen_at.is_(None))
    rows = list(await session.scalars(statement.order_by(EventTypeRow.type).limit(limit)))
    found = {row.type: row for row in rows}
    wanted = sorted({*names, *found})[:limit]
    counts = await _recently(session, wanted)
    return [Known(name, CATALOGUE.get(name), found.get(name), counts.get(name, 0)) for name in wanted]


async def get(session: TenantSession, event_type: str) -> Known:
    """Return a type.

    Raises:
        NotFoundError: it is none of the platform's, and the tenant has neither sent nor declared it.
    """
    row, entry = await _row(session, event_type), CATALOGUE.get(event_type)
    if row is None and entry is None:
        raise NotFoundError("No such type of event: none was received, and it is not declared.")
    return Known(event_type, entry, row, (await _recently(session, [event_type])).get(event_type, 0))


async def declare(
    session: TenantSession,
    event_type: str,
    *,
    description: str | None,
    schema: Mapping[str, Any],
    on_mismatch: str,
    by: Actor,
) -> Known:
    """Say what events of a type are held to when clients send them; what counted misfits begins anew.

    Raises:
        InvalidError: the type is one that clients may not send, or the schema is none; naming every field at fault.
        ConflictError: too many types are declared.
    """
    if (reason := problem_with_type(event_type)) is not None:
        raise InvalidError.of("type", reason)
    if found := problems_of(schema, of_record=False):
        raise InvalidError(f"{found[0].field}: {found[0].reason}", errors=found)
    made = insert(EventTypeRow).values(tenant_id=session.tenant_id, id=new_id(), type=event_type)
    await session.execute(made.on_conflict_do_nothing())
    row = await _row(session, event_type, lock=True)
    if row is None:  # its declaration was dropped between the two statements
        raise ConflictError("Somebody else changes the type at this moment.")
    if row.declared_at is None:
        number = await session.scalar(
            select(func.count())
            .select_from(EventTypeRow)
            .where(EventTypeRow.tenant_id == session.tenant_id, EventTypeRow.declared_at.is_not(None))
        )
        if (number or 0) >= MAX_DECLARED:
            raise ConflictError(f"There can be at most {MAX_DECLARED} declared types.")
    wanted = {"description": description, "schema": dict(schema), "on_mismatch": on_mismatch}
    changes = {name: (getattr(row, name), value) for name, value in wanted.items() if getattr(row, name) != value}
    if changes or row.declared_at is None:
        for name, (_, value) in changes.items():
            setattr(row, name, value)
        row.declared_at = func.now()
        row.flagged = row.rejected = 0
        row.misfit = row.misfit_at = None
        await session.flush()
        await session.refresh(row)
        await _log(session, row, "event_type.declared", changes, by=by)
    return await get(session, event_type)


async def withdraw(session: TenantSession, event_type: str, *, by: Actor) -> None:
    """Hold events of a type to nothing more; what was seen of it stays known.

    Raises:
        NotFoundError: it is not declared.
    """
    row = await _row(session, event_type, lock=True)
    if row is None or row.declared_at is None:
        raise NotFoundError("The type is not declared.")
    changes = {name: (getattr(row, name), None) for name in ("description", "schema", "on_mismatch")}
    await _log(session, row, "event_type.withdrawn", changes, by=by)
    if row.last_seen_at is None:
        await session.execute(
            delete(EventTypeRow).where(EventTypeRow.tenant_id == session.tenant_id, EventTypeRow.id == row.id)
        )
        return
    row.description = row.schema = row.on_mismatch = row.declared_at = row.misfit = row.misfit_at = None
    row.flagged = row.rejected = 0
    await session.flush()


async def _row(session: TenantSession, event_type: str, *, lock: bool = False) -> EventTypeRow | None:
    statement = select(EventTypeRow).where(EventTypeRow.tenant_id == session.tenant_id, EventTypeRow.type == event_type)
    if lock:
        statement = statement.with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


async def _recently(session: TenantSession, types: Sequence[str]) -> dict[str, int]:
    if not types:
        return {}
    first = (datetime.now(UTC) - WINDOW).date()
    rows = await session.execute(
        select(EventTypeDay.type, func.sum(EventTypeDay.events))
        .where(EventTypeDay.tenant_id == session.tenant_id, EventTypeDay.type.in_(types), EventTypeDay.day >= first)
        .group_by(EventTypeDay.type)
    )
    return {name: int(number) for name, number in rows}


async def _log(session: TenantSession, row: EventTypeRow, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    said = {"type": (row.type, row.type), **changes}
    await activity.record(session, by=by, subject_type="event_type", subject_id=row.id, type=verb, changes=said)
