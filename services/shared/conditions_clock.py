"""When a condition may next decide otherwise though nothing happens: what lets nobody be looked at in vain.

Up to that moment its answer stays, as long as no fact changes. It may be too early (the answer is then the same, and
the next moment is asked for anew), never too late.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Date,
    DateTime,
    FromClause,
    Integer,
    Interval,
    Table,
    and_,
    case,
    extract,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.sql.elements import ColumnElement

from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    FieldCondition,
    Not,
    RelatedCondition,
    SegmentCondition,
    walk,
)
from journeys.durations import Duration
from models import OrganizationPerson
from services.shared import related
from services.shared.conditions_fields import UTC_ZONE, Clock, Instant, as_day, as_instant, calendar, date_in, elapsed
from services.shared.conditions_sql import (
    Scope,
    among,
    compile_condition,
    events_counted,
    field_value,
    related_rows,
    root_of,
)

RELATIVE: Final = frozenset({"older_than", "newer_than", "anniversary_in"})
_LINK: Table = OrganizationPerson.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
_NONE: Final = literal_column("0", Integer)
_TIMESTAMP: Final = DateTime(timezone=True)
_MOMENT: Final = literal_column("interval '1 microsecond'", Interval)
_DAY: Final = literal_column("interval '1 day'", Interval)
_SLACK_DAYS: Final = 4
"""Adding months and taking them away again may miss by as many days: months have 28 to 31."""


def speaks_of_time(condition: Condition) -> bool:
    """Whether the answer may change though nothing happens."""
    return any(_is_timed(part) for part in walk(condition))


def _is_timed(part: Condition) -> bool:
    match part:
        case FieldCondition():
            return part.op in RELATIVE or part.field.root == "organization" or _is_rotting(part)
        case EventCondition():
            return part.within is not None
        case RelatedCondition():
            return part.related == "organization"
        case _:
            return False


def _is_rotting(part: FieldCondition) -> bool:
    return str(part.field) == "deal.rotting"


def next_change(condition: Condition, scope: Scope) -> Instant | None:
    """Return the moment after `scope.now`, NULL where there is none; None where the condition does not speak of time.

    Raises:
        UnsupportedCondition: it asks for what the scope does not have.
    """
    at: Instant | None = None
    match condition:
        case SegmentCondition():
            pass  # a segment tells by itself
        case AllOf() | AnyOf():
            at = _of_several(condition, scope)
        case Not():
            at = next_change(condition.condition, scope)
        case FieldCondition():
            at = _of_field(condition, scope)
        case EventCondition():
            at = _of_count(condition, scope)
        case RelatedCondition():
            at = _of_related(condition.related, condition.where, scope)
    return at


def _of_several(condition: AllOf | AnyOf, scope: Scope) -> Instant | None:
    parts = condition.conditions
    at = _earliest([next_change(part, scope) for part in parts])
    still = [compile_condition(part, replace(scope, counts=None)) for part in parts if not speaks_of_time(part)]
    if at is None or not still:
        return at
    # Where what does not change with time decides, nothing else matters: most people need no moment at all.
    open_still = and_(*still) if isinstance(condition, AllOf) else not_(or_(*still))
    return case((open_still, at))


def _earliest(moments: Sequence[Instant | None]) -> Instant | None:
    known = [moment for moment in moments if moment is not None]
    # LEAST leaves NULLs out.
    return func.least(*known, type_=_TIMESTAMP) if len(known) > 1 else next(iter(known), None)


def _of_field(condition: FieldCondition, scope: Scope) -> Instant | None:
    root = root_of(condition.field)
    if root not in scope.rows and (root in related.ROOTS or condition.field.root == "record"):
        return _of_related(root, condition, scope, primary=True)
    if _is_rotting(condition):
        return _of_rotting(scope.rows[root], scope)
    if condition.op not in RELATIVE:
        return None
    value = field_value(condition.field, scope)
    if condition.op == "anniversary_in":
        day = as_day(value, scope.clock.zone)
        return None if day is None else _of_anniversary(day, condition.duration(), scope.clock)
    instant = as_instant(value)
    return None if instant is None else _ages(instant, condition.duration(), scope.clock)


def _of_rotting(deal: FromClause, scope: Scope) -> Instant:
    """Return when a deal begins to rot; the microsecond, as on the dot it does not."""
    # Not later than the view that says which rot, whose time is the transaction's.
    now = func.least(scope.now, func.now(), type_=_TIMESTAMP)
    then = deal.c.rots_at + _MOMENT
    return case((then > now, then))


def _ages(instant: Instant, duration: Duration, clock: Clock) -> Instant:
    """Return when an instant ceases to be within `duration` before now."""
    # What `Clock.ago` takes away, added in the other order; the microsecond, as it still counts on the dot.
    wall = func.timezone(UTC_ZONE, instant, type_=DateTime) + elapsed(duration) + calendar(duration)
    then = func.timezone(UTC_ZONE, wall, type_=_TIMESTAMP) + _MOMENT
    return case(
        (then > clock.now, then),
        # A month is shorter than the one counted on: the clock decides at one of the next midnights.
        (instant >= clock.ago(duration), _midnight_after(clock.now)),
    )


def _midnight_after(now: Instant) -> Instant:
    today = func.date_trunc("day", func.timezone(UTC_ZONE, now, type_=DateTime), type_=DateTime)
    return func.timezone(UTC_ZONE, today + _DAY, type_=_TIMESTAMP)


def _of_anniversary(day: ColumnElement[Any], duration: Duration, clock: Clock) -> Instant:
    """Return the next midnight in the person's zone at which a day comes near, or is over."""
    given = select(day.label("day"), date_in(clock.zone, clock.now).label("today"), clock.zone.label("zone"))
    given = given.offset(_NONE).correlate_except().subquery()
    years = extract("year", given.c.today) - extract("year", given.c.day)
    candidates = [_around(given, years + ahead, duration) for ahead in (0, 1, 2)]
    first = func.least(*candidates, type_=Date)
    return (
        select(func.timezone(given.c.zone, sql_cast(first, DateTime), type_=_TIMESTAMP))
        .select_from(given)
        .scalar_subquery()
    )


def _around(given: Any, years: ColumnElement[Any], duration: Duration) -> ColumnElement[Any]:  # noqa: ANN401 - a subquery
    falls = sql_cast(given.c.day + func.make_interval(sql_cast(years, Integer), type_=Interval), Date)
    exact = not duration.months
    # It is near on the first day from which `duration` reaches past it.
    before = calendar(duration) + func.make_interval(0, 0, 0, -1 if exact else _SLACK_DAYS, type_=Interval)
    near = sql_cast(falls - before, Date)
    return case(
        (given.c.today < near, near),
        (given.c.today <= falls, falls + 1 if exact else given.c.today + 1),
    )


def _of_count(condition: EventCondition, scope: Scope) -> Instant | None:
    moments: list[Instant | None] = []
    event, counted = events_counted(condition, replace(scope, counts=None))
    if condition.within is not None:
        # Without events to come a count only falls: it passes the highest bound it is not below yet.
        occurred = (
            select(event.c.occurred_at).where(*counted).order_by(event.c.occurred_at.desc()).correlate_except(event)
        )
        for times in _bounds(condition):
            # As a row, so that it is looked up once however often it is spoken of.
            last = occurred.offset(literal(times - 1, Integer)).limit(1).subquery()
            moments.append(select(_ages(last.c.occurred_at, condition.within, scope.clock)).scalar_subquery())
    if condition.where is not None and speaks_of_time(condition.where):
        # Also of events that do not count yet.
        event, any_of_them = events_counted(condition.model_copy(update={"where": None}), scope)
        inner = next_change(condition.where, replace(scope, event=event, counts=None))
        moments.append(None if inner is None else _first_of(inner, event, any_of_them, [event]))
    return _earliest(moments)


def _bounds(condition: EventCondition) -> list[int]:
    """Return the numbers below which the answer is another than from there on."""
    times = condition.count.value
    bounds = {
        ">=": [times],
        "<": [times],
        ">": [times + 1],
        "<=": [times + 1],
        "=": [times, times + 1],
        "!=": [times, times + 1],
    }
    return [bound for bound in bounds[condition.count.op] if bound > 0]


def _of_related(root: str, where: Condition | None, scope: Scope, *, primary: bool = False) -> Instant | None:
    found = related_rows(root, scope, primary=primary)
    moments: list[Instant | None] = []
    if where is not None and speaks_of_time(where):
        inner = next_change(where, among(scope, root, found.row))
        moments.append(None if inner is None else _first_of(inner, found.source, found.where, found.tables))
    if root == "organization":
        moments.append(_of_links(scope))
    return _earliest(moments)


def _first_of(moment: Instant, source: Any, where: Sequence[Any], tables: Sequence[Any]) -> Instant:  # noqa: ANN401 - parts of a statement
    return (
        select(func.min(moment, type_=_TIMESTAMP))
        .select_from(source)
        .where(*where)
        .correlate_except(*tables)
        .scalar_subquery()
    )


def _of_links(scope: Scope) -> Instant:
    """Return the next day on which a link to an organization begins or ends."""
    link = _LINK.alias()
    # Not later than the view that says which links hold, whose time is the transaction's.
    now = func.least(scope.now, func.now(), type_=_TIMESTAMP)
    today = sql_cast(func.timezone(UTC_ZONE, now, type_=DateTime), Date)
    dates = [func.min(day, type_=Date).filter(day > today) for day in (link.c.started_on, link.c.ended_on)]
    first: ColumnElement[datetime] = func.timezone(
        UTC_ZONE, sql_cast(func.least(*dates, type_=Date), DateTime), type_=_TIMESTAMP
    )
    return (
        select(first)
        .where(link.c.tenant_id == scope.tenant_id, link.c.person_id == scope.whose())
        .correlate_except(link)
        .scalar_subquery()
    )
