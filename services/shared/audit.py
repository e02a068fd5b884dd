"""Reading the activity log: everything that was done in a tenant, and the history of one thing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Select, select, tuple_

from core.database import TenantSession
from models import Activity
from models.shared import BY_USER

SKEW: Final = timedelta(hours=1)
"""How far the time in an entry's id may be from the time it is said to have happened at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries; all that is given must hold."""

    actor: str | None = None
    """As the log has it: `user:ID`, `api_key:ID`, ..."""
    type: str | None = None
    subject_type: str | None = None
    subject_id: UUID | None = None
    since: datetime | None = None
    """Not before; with an offset."""
    until: datetime | None = None
    """Before; with an offset."""


async def page(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> list[Activity]:
    """Return up to `limit` entries, those written last first, written before the one with id `before`."""
    statement = select(Activity).where(Activity.tenant_id == session.tenant_id)
    for column, value in (
        (Activity.actor, wanted.actor),
        (Activity.type, wanted.type),
        (Activity.subject_type, wanted.subject_type),
        (Activity.subject_id, wanted.subject_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.actor is not None and wanted.actor.startswith("user:"):
        statement = statement.where(BY_USER)
    statement = _between(statement, wanted.since, wanted.until)
    if before is not None:
        statement = statement.where(Activity.id < before)
    return list(await session.scalars(statement.order_by(Activity.id.desc()).limit(limit)))


def _between(statement: Select[Activity], since: datetime | None, until: datetime | None) -> Select[Activity]:
    # Ids are in the order of time, so they bound what is read; which entries it is, their time decides.
    if since is not None:
        statement = statement.where(Activity.at >= since, Activity.id >= _id_at(since, -SKEW))
    if until is not None:
        statement = statement.where(Activity.at < until, Activity.id < _id_at(until, SKEW))
    return statement


def _id_at(at: datetime, shift: timedelta) -> UUID:
    """Return the lowest UUIDv7 of a time, or the nearest there is."""
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC) + shift) // timedelta(milliseconds=1)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


async def history(
    session: TenantSession, subject_type: str, subject_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None
) -> list[Activity]:
    """Return up to `limit` entries about one thing, newest first, older than the one whose time and id are `before`."""
    statement = select(Activity).where(
        Activity.tenant_id == session.tenant_id,
        Activity.subject_type == subject_type,
        Activity.subject_id == subject_id,
    )
    if before is not None:
        statement = statement.where(tuple_(Activity.at, Activity.id) < before)
    return list(await session.scalars(statement.order_by(Activity.at.desc(), Activity.id.desc()).limit(limit)))
