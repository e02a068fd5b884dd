"""Letting in whose date has come round, a page of people at a time.

Whoever's moment is within the last day enters, once for each occurrence: its day is the entry's key, and a unique index
holds it. So a run that dies, comes late or comes twice leaves nobody out and lets nobody in twice; and whose date or
zone changes on the day enters late rather than never.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    extract,
    func,
    literal,
    select,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Date

from contracts.journey_entries import EntryDone, EntryPage
from core.database import TenantSession
from journeys.durations import zone_or_utc
from journeys.entries import Again, DateEntry
from journeys.occurrences import days_of_the_year
from models import Person, Tenant
from services.journeys import by_clock, enrollments
from services.journeys.candidates import Candidate
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion
from services.shared.conditions_fields import Value, as_day
from services.shared.conditions_sql import Scope, field_value

PAGE: Final = enrollments.COHORT_SIZE
_ONCE: Final = Again()
_FIRST: Final = date(1, 1, 1)
_LAST: Final = date(9998, 12, 31)
"""Days that Python knows, with a year to spare."""
PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here


async def page(session: TenantSession, asked: EntryPage) -> EntryDone:
    """Let in whose moment has come, among the next people who have such a date; repeated, it lets in whom it missed."""
    over = EntryDone(entered=0, after=None)
    version = await by_clock.version_of(session, asked.entry)
    if version is None or by_clock.is_late(asked.due_at):
        return over
    entry = version.definition.entries[asked.entry.ordinal]
    if not isinstance(entry, DateEntry):
        return over
    since = max(filter(None, (asked.due_at - by_clock.LATEST, asked.entry.since)))
    later = true() if asked.entry.after is None else PERSON.c.id > asked.entry.after
    rows = (await session.execute(dated(session.tenant_id, entry, since, asked.due_at, later).limit(PAGE))).all()
    found = [
        Candidate(row.id, told(entry, row.day, occurrence), occurrence.isoformat())
        for row in rows
        if (occurrence := entry.calendar.due(row.day, zone_or_utc(row.zone), since, asked.due_at)) is not None
    ]
    fresh = await _not_yet_in(session, version, found)
    done = await enrollments.enroll(session, version, fresh, again=_ONCE, source="date")
    await by_clock.log(session, version, asked.entry.ordinal, done, due_at=asked.due_at)
    return EntryDone(entered=len(done.enrollment_ids), after=rows[-1].id if len(rows) == PAGE else None)


def told(entry: DateEntry, day: date, occurrence: date) -> dict[str, JsonValue]:
    """Return what somebody enters by."""
    return {"date": occurrence.isoformat(), "field": str(entry.date), "value": day.isoformat()}


def dated(
    tenant_id: UUID, entry: DateEntry, since: datetime, until: datetime, who: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    """Return the statement for those of `who` whose date may have its moment in this time: id, day, zone, by the id."""
    scope = Scope(tenant_id=tenant_id, person=PERSON, subject_id=PERSON.c.id)
    value = field_value(entry.date, scope)
    day = as_day(value, scope.clock.zone)
    if day is None:
        raise TypeError(f"{entry.date} never holds a date")
    days = entry.calendar.days(since, until)
    rough = (
        select(PERSON.c.id, func.coalesce(PERSON.c.time_zone, Tenant.time_zone).label("zone"), day.label("day"))
        .join(Tenant, Tenant.id == PERSON.c.tenant_id)
        .where(
            PERSON.c.tenant_id == tenant_id,
            Tenant.id == tenant_id,
            who,
            _written(value, days, yearly=entry.yearly),
        )
        .order_by(PERSON.c.id)
        .offset(literal(0, Integer))  # keeps the long expression from being computed twice
        .subquery()
    )
    return (
        select(rough)
        .where(rough.c.day.between(_FIRST, _LAST), _falls(rough.c.day, days, yearly=entry.yearly))
        .order_by(rough.c.id)
    )


def _falls(day: ColumnElement[date], days: frozenset[date], *, yearly: bool) -> ColumnElement[bool]:
    if not yearly:
        return day == any_(literal(sorted(days), ARRAY(Date)))
    numbers = [month * 100 + number for month, number in sorted(days_of_the_year(days))]
    number = sql_cast(extract("month", day) * 100 + extract("day", day), Integer)
    return number == any_(literal(numbers, ARRAY(Integer)))


def _written(value: Value, days: frozenset[date], *, yearly: bool) -> ColumnElement[bool]:
    """Return a cheap test of how a date is written that none of these days fails: it spares the others the dear one."""
    if value.text is None:
        return value.present
    if yearly:
        texts = [f"{month:02}-{number:02}" for month, number in sorted(days_of_the_year(days))]
        return func.substr(value.text, 6, 5, type_=Text) == any_(literal(texts, ARRAY(Text)))
    texts = [day.isoformat() for day in sorted(days)]
    return func.left(value.text, 10, type_=Text) == any_(literal(texts, ARRAY(Text)))


async def _not_yet_in(session: TenantSession, version: LoadedVersion, found: Sequence[Candidate]) -> list[Candidate]:
    """Return those whom no earlier look has let in: they are no refusals."""
    if not found:
        return []
    given = (
        func.unnest(
            bindparam("people", [candidate.subject_id for candidate in found], type_=ARRAY(Uuid)),
            bindparam("occurrences", [candidate.entry_key for candidate in found], type_=ARRAY(Text)),
        )
        .table_valued("subject_id", "entry_key")
        .render_derived(name="given")
    )
    inside = await session.execute(
        select(ENROLLMENT.c.subject_id, ENROLLMENT.c.entry_key)
        .join(
            given,
            and_(ENROLLMENT.c.subject_id == given.c.subject_id, ENROLLMENT.c.entry_key == given.c.entry_key),
        )
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.journey_id == version.journey_id,
            ENROLLMENT.c.subject_type == "person",
        )
    )
    known = {(row.subject_id, row.entry_key) for row in inside}
    return [candidate for candidate in found if (candidate.subject_id, candidate.entry_key) not in known]
