"""How the value of one field is compared in SQL, as `journeys.evaluate` says it in memory.

A comparison is never NULL, and no cast can fail: each stands in a CASE behind the test that its text fits.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from operator import ge, gt, le, lt
from typing import Any, Final, cast

from sqlalchemy import (
    Boolean,
    Date,
    DateTime,
    Integer,
    Interval,
    Numeric,
    Text,
    all_,
    and_,
    any_,
    case,
    column,
    exists,
    extract,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from journeys.conditions import FieldCondition
from journeys.durations import Duration
from journeys.literals import DATE_PATTERN, NUMBER_PATTERN, as_date, as_number, literal_kind

Bool = ColumnElement[bool]
Instant = ColumnElement[datetime]

_NUMBER: Final = f"^(?:{NUMBER_PATTERN})$"
# Counting up to a bound makes a match five times as long, so only long texts are matched with bounds.
_UNBOUNDED_NUMBER: Final = _NUMBER.replace("{1,30}", "+")
_ALWAYS_IN_BOUNDS: Final = 30
_DATE: Final = f"^(?:{DATE_PATTERN})$"
# The end of the month in a pattern: a cast of 30 February fails, and PostgreSQL 15 cannot ask whether it would.
_LAST_DAYS: Final = literal_column("ARRAY['29', '30', '31']", ARRAY(Text))
_LAST_DAY_OF_CALENDAR: Final = (
    r"^(?:[0-9]{4}-(?:(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_LENGTH_OF_DATE: Final = len("2026-01-31")
_LAST_YEAR: Final = 9999
_DENIALS: Final = frozenset({"!=", "not_in"})
_ONE: Final = literal_column("1", Integer)
_NONE: Final = literal_column("0", Integer)
UTC_ZONE: Final = literal_column("'UTC'", Text)
"""As a literal: a statement about many segments would have it as a parameter hundreds of times."""
_ITSELF: Final = literal_column("'{}'", ARRAY(Text))
_TIMESTAMP: Final = DateTime(timezone=True)
_ORDER: Final[dict[str, Callable[[Any, Any], Bool]]] = {">": gt, ">=": ge, "<": lt, "<=": le}


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is, and in whose zone."""

    now: Instant
    zone: ColumnElement[str]
    """A name that the server knows, never NULL."""

    def ago(self, duration: Duration) -> Instant:
        """Return the instant `duration` before now, its calendar parts taken away in UTC."""
        # Without a zone, so that neither the session's nor its changes of the clocks count.
        wall = func.timezone(UTC_ZONE, self.now, type_=DateTime)
        return func.timezone(UTC_ZONE, wall - calendar(duration) - elapsed(duration), type_=_TIMESTAMP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a field holds, in the ways it can be read; a way that is None is none."""

    present: Bool
    """Whether it is there; never NULL."""
    text: ColumnElement[str] | None = None
    """As text. Where the value is JSON, what `->>` gives for any JSON; elsewhere the value is always a string."""
    json: ColumnElement[Any] | None = None
    number: ColumnElement[Decimal] | None = None
    instant: Instant | None = None
    boolean: Bool | None = None


def text_value(text: ColumnElement[Any], *, nullable: bool = True) -> Value:
    """Return the value of a text."""
    return Value(present=text.is_not(None) if nullable else true(), text=type_coerce(text, Text))


def number_value(number: ColumnElement[Any], *, nullable: bool = True) -> Value:
    """Return the value of a number."""
    return Value(present=number.is_not(None) if nullable else true(), number=type_coerce(number, Numeric))


def instant_value(instant: ColumnElement[Any], *, nullable: bool = True) -> Value:
    """Return the value of a time with its zone."""
    return Value(present=instant.is_not(None) if nullable else true(), instant=type_coerce(instant, _TIMESTAMP))


def boolean_value(flag: ColumnElement[bool]) -> Value:
    """Return the value of a boolean that is never NULL."""
    return Value(present=true(), boolean=flag)


def json_value(root: ColumnElement[Any], path: Sequence[str] = ()) -> Value:
    """Return the value that a path leads to in JSONB, inside objects only."""
    # Not `#>` along the path, nor a subscript: they take a step such as "0" into a list.
    *parents, last = (root, *(literal(step, Text) for step in path))
    if not parents:
        return _json_value(root, root.op("#>>", return_type=Text())(_ITSELF))
    holder = reduce(lambda held, step: held.op("->", return_type=JSONB())(step), parents)
    return _json_value(holder.op("->", return_type=JSONB())(last), holder.op("->>", return_type=Text())(last))


def _json_value(json: ColumnElement[Any], text: ColumnElement[str]) -> Value:
    # The text is NULL for JSON null too.
    return Value(present=text.is_not(None), text=text, json=json)


def compare(value: Value, condition: FieldCondition, clock: Clock) -> Bool:
    """Return the comparison that a condition asks of a value."""
    given, op = condition.value, condition.op
    match op:
        case "exists" | "missing":
            return value.present if op == "exists" else not_(value.present)
        case "=" | "!=" | "in" | "not_in":
            decided = _among(value, cast("list[object]", given) if isinstance(given, list) else [given])
        case "contains":
            decided = or_(_contains_text(value, given), _contains_part(value, given))
        case "starts_with":
            decided = _if_text(value, lambda text: func.starts_with(text, str(given), type_=Boolean))
        case "older_than":
            decided = _if_date(value, lambda instant: instant < clock.ago(condition.duration()))
        case "newer_than":
            decided = _if_date(value, lambda instant: instant >= clock.ago(condition.duration()))
        case "anniversary_in":
            decided = _anniversary_within(value, condition.duration(), clock)
        case _:
            decided = _ordered(value, _ORDER[op], given)
    return and_(value.present, not_(decided)) if op in _DENIALS else decided


def _among(value: Value, literals: Sequence[object]) -> Bool:
    """Return whether a value is `=` to one of these scalars, each deciding by its own kind."""
    by_kind: dict[str, list[Any]] = defaultdict(list)
    for one in literals:
        by_kind[literal_kind(one)].append(one)
    parts: list[Bool] = []
    if texts := by_kind["text"]:
        parts.append(_is_text(value, texts))
    if numbers := [as_number(number) for number in by_kind["number"]]:
        parts.append(_if_number(value, lambda number: _one_of(number, numbers, Numeric())))
    if dates := [_instant(text) for text in by_kind["date"]]:
        parts.append(_if_date(value, lambda instant: or_(*(instant == date for date in dates))))
    parts += [_is_boolean(value, flag=flag) for flag in sorted(set(by_kind["boolean"]))]
    return or_(*parts)


def _is_text(value: Value, texts: Sequence[str]) -> Bool:
    if value.text is None:
        return false()
    found = _one_of(value.text, texts, Text())
    if value.json is not None and any(map(_like_other_json, texts)):
        return _guarded(_type_of(value.json) == "string", found)
    return and_(found, value.present) if value.json is None else found.is_(true())


def _is_boolean(value: Value, *, flag: bool) -> Bool:
    if value.json is not None:
        return (value.json == literal(flag, JSONB)).is_(true())
    if value.boolean is None:
        return false()
    return and_(value.boolean if flag else not_(value.boolean), value.present)


def _if_text(value: Value, decide: Callable[[ColumnElement[str]], Bool]) -> Bool:
    if value.text is None:
        return false()
    if value.json is None:
        return and_(decide(value.text), value.present)
    return _guarded(_type_of(value.json) == "string", decide(value.text))


def _if_number(value: Value, decide: Callable[[ColumnElement[Decimal]], Bool]) -> Bool:
    if value.number is not None:
        return and_(decide(value.number), value.present)
    if value.text is None:
        return false()
    of_text = _guarded(_fits_number(value.text), decide(sql_cast(value.text, Numeric)))
    if value.json is None:
        return of_text
    of_json = {"number": decide(sql_cast(value.json, Numeric)), "string": of_text}
    return case(of_json, value=_type_of(value.json), else_=false())


def _if_date(value: Value, decide: Callable[[Instant], Bool]) -> Bool:
    if value.instant is not None:
        return and_(decide(value.instant), value.present)
    if value.text is None:
        return false()
    # No other JSON than a string has a text like a date.
    return _guarded(fits_date(value.text), decide(_instant_of(value.text)))


def as_instant(value: Value) -> Instant | None:
    """Return the instant that a value is taken for, NULL where it is none; None where it never is one."""
    if value.instant is not None or value.text is None:
        return value.instant
    return case((fits_date(value.text), _instant_of(value.text)))


def as_day(value: Value, zone: ColumnElement[str]) -> ColumnElement[date] | None:
    """Return the day that a value says, or that its time falls on in the zone; NULL and None as for `as_instant`."""
    if value.instant is not None:
        return date_in(zone, value.instant)
    return None if value.text is None else case((fits_date(value.text), _day(value.text, zone)))


def _contains_text(value: Value, given: object) -> Bool:
    if not isinstance(given, str):
        return false()
    return _if_text(value, lambda text: func.strpos(text, given, type_=Integer) > 0)


def _contains_part(value: Value, given: object) -> Bool:
    if value.json is None:
        return false()
    if literal_kind(given) == "text":
        found = value.json.op("?", return_type=Boolean())(literal(given, Text))
    else:
        parts = func.jsonb_array_elements(value.json).table_valued(column("value", JSONB))
        same = _among(json_value(parts.c.value), [given])
        found = exists(select(_ONE).select_from(parts).where(same).correlate_except(parts))
    return _guarded(_type_of(value.json) == "array", found)


def _type_of(json: ColumnElement[Any]) -> ColumnElement[str]:
    return func.jsonb_typeof(json, type_=Text)


def _one_of(value: ColumnElement[Any], choices: Sequence[object], kind: Any) -> Bool:  # noqa: ANN401 - an SQL type
    if len(choices) == 1:
        return value == literal(choices[0], kind)
    return value == any_(literal(list(choices), ARRAY(kind)))


def _guarded(test: Bool, then: Bool) -> Bool:
    """Return `then` where `test` is true, else false: nothing of `then` is computed there."""
    return case((test, then), else_=false())


def _like_other_json(text: str) -> bool:
    """Whether `->>` could give this text for a value that is no string."""
    return text in {"true", "false"} or text.startswith(("{", "[", "-", *"0123456789"))


def _ordered(value: Value, order: Callable[[Any, Any], Bool], given: object) -> Bool:
    if literal_kind(given) == "number":
        return _if_number(value, lambda number: order(number, literal(as_number(given), Numeric)))
    return _if_date(value, lambda instant: order(instant, _instant(given)))


def _instant(given: object) -> Instant:
    at = as_date(given)
    if at is None:
        raise ValueError(f"{given!r} is no date")
    try:
        return literal(at.astimezone(UTC), _TIMESTAMP)
    except OverflowError:  # Beyond the year 9999 in UTC, which Postgres knows and Python does not.
        return sql_cast(literal(at.isoformat(), Text), _TIMESTAMP)


def _fits_number(text: ColumnElement[str]) -> Bool:
    bounded = or_(func.length(text) <= _ALWAYS_IN_BOUNDS, text.regexp_match(_NUMBER))
    return and_(text.regexp_match(_UNBOUNDED_NUMBER), bounded)


def fits_date(text: ColumnElement[str]) -> Bool:
    """Return whether a text is a date, or a date and a time; never NULL where the text is not."""
    day = func.substr(text, 9, 2, type_=Text)
    return and_(text.regexp_match(_DATE), or_(day != all_(_LAST_DAYS), text.regexp_match(_LAST_DAY_OF_CALENDAR)))


def _instant_of(text: ColumnElement[str]) -> Instant:
    """Return the instant of a text that fits as a date."""
    has_offset = or_(text.like("%Z"), text.like("%+%"), text.like("%-__:__"))
    return case(
        (has_offset, sql_cast(text, _TIMESTAMP)),
        else_=func.timezone(UTC_ZONE, sql_cast(text, DateTime), type_=_TIMESTAMP),
    )


def date_in(zone: ColumnElement[str], instant: Instant) -> ColumnElement[date]:
    """Return the day of an instant in a zone."""
    return sql_cast(func.timezone(zone, instant, type_=DateTime), Date)


def calendar(duration: Duration) -> ColumnElement[Any]:
    """Return the calendar parts of a duration."""
    return literal_column(f"make_interval(0, {duration.months}, 0, {duration.days})", Interval)


def elapsed(duration: Duration) -> ColumnElement[Any]:
    """Return the elapsed part of a duration."""
    return literal_column(f"make_interval(secs => {duration.elapsed.total_seconds():f})", Interval)


def _anniversary_within(value: Value, duration: Duration, clock: Clock) -> Bool:
    if value.instant is not None:
        at, fits = value.instant, value.present
    elif value.text is not None:
        at, fits = value.text, fits_date(value.text)
    else:
        return false()
    # OFFSET keeps the planner from putting each long expression into every place that names it.
    given = select(at.label("at"), clock.zone.label("zone")).offset(_NONE).correlate_except().subquery()
    today = date_in(given.c.zone, clock.now)
    day = _day(given.c.at, given.c.zone) if value.instant is None else date_in(given.c.zone, given.c.at)
    days = select(day.label("day"), today.label("today")).select_from(given).offset(_NONE).subquery()
    end = days.c.today + calendar(duration)
    years = extract("year", days.c.today) - extract("year", days.c.day)
    rounds = [
        # Adding years makes the 28th of a 29 February, and leaves the 28th.
        sql_cast(days.c.day + func.make_interval(sql_cast(years + ahead, Integer), type_=Interval), Date)
        for ahead in (0, 1)
    ]
    falls = or_(*(and_(days.c.today <= on, on < end) for on in rounds))
    decided = select(falls).select_from(days).scalar_subquery()
    return _guarded(fits, decided)


def _day(text: ColumnElement[str], zone: ColumnElement[str]) -> ColumnElement[date]:
    """Return the day that a text that fits as a date says, or that its time falls on in the zone."""
    local = func.timezone(zone, _instant_of(text), type_=DateTime)
    as_written = or_(func.length(text) == _LENGTH_OF_DATE, extract("year", local) > _LAST_YEAR)
    written = sql_cast(func.left(text, _LENGTH_OF_DATE), Date)
    return case((as_written, written), else_=sql_cast(local, Date))
