"""What a condition means, decided in memory for one subject and one event.

The SQL compiler decides the same for sets and must agree with every sentence here;
`tests/journeys/condition_cases.py` is the table that both are tested against.

**Missing.** A field is missing when a step of its path does not exist, leads into something that is no object, or
holds JSON `null`. `missing` is then true and every other operator false: `!=` and `not_in` too. An empty string or
list is there.

**The literal decides the comparison**, never the value that happens to be stored (`journeys.literals.literal_kind`):

- *number*: the value counts when it is a JSON number, or a string that is all `NUMBER_PATTERN` (money arrives as
  `"100.00"`); compared exactly, as decimals. Booleans are no numbers.
- *date* (a string that is all `DATE_PATTERN` and that the calendar knows): the value counts when it is such a string;
  compared as instants. A date alone is its midnight, and a time without an offset is UTC.
- *text*: the value counts when it is a string; compared character by character, upper and lower case apart.
- *boolean*: the value counts when it is a JSON boolean.

**Operators.** `=` is true for a value that counts and is equal; `!=` for any value that is there and not `=`. `>`,
`>=`, `<`, `<=` are true for a value that counts and is ordered so. `in` is `=` for one of the list, `not_in` is any
value that is there and not `in`. `contains` asks a string for a part of it (the literal being a string) and a list for
an element that is `=`. `starts_with` asks strings only. Objects and lists are `=` to nothing.

**Relative dates** take the value as a date literal would. `older_than D`: before now minus D. `newer_than D`: at or
after now minus D, the future too. `anniversary_in D`: its month and day come round on one of the D days that begin
with today, whatever its year; 29 February comes on the 28th in other years. Today, and the day of a value that has a
time of day, are those of the facts' zone; a date alone is the day it says. Calendar parts of D are subtracted in UTC.

**Trees.** `all` and `any` decide as soon as one part does; parts that only the database can decide raise
`NeedsDatabase` only where the answer depends on them, whatever their order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import tzinfo as tz
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, Final, cast

from pydantic import JsonValue

from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    FieldCondition,
    FieldPath,
    Not,
    RelatedCondition,
    SegmentCondition,
)
from journeys.durations import Duration, add, subtract
from journeys.literals import as_date, as_number, literal_kind

Properties = Mapping[str, object]
"""A JSON object; dates and times in it may also be `datetime`."""

MAX_KEY_LENGTH: Final = 500
"""Longer values neither match nor key an enrollment: they are indexed."""


class NeedsDatabase(Exception):  # noqa: N818 - an answer to the caller, not a failure
    """The facts at hand do not decide the condition: ask the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a condition is decided on. What is `None` only the database knows."""

    now: datetime
    """Aware."""
    event: Properties | None = None
    """`type`, `occurred_at` and `properties`."""
    person: Properties | None = None
    """The core fields by name, and `attributes`."""
    entry: Properties | None = None
    """The entry event's properties."""
    zone: tz = UTC
    """Whose today counts for anniversaries."""


def evaluate(condition: Condition, facts: Facts) -> bool:
    """Decide a condition. Raises `NeedsDatabase` when these facts are not enough, and nothing else."""
    match condition:
        case AllOf():
            return _combine(condition.conditions, facts, deciding=False)
        case AnyOf():
            return _combine(condition.conditions, facts, deciding=True)
        case Not():
            return not evaluate(condition.condition, facts)
        case FieldCondition():
            return compare(_look_up(condition.field, facts), condition, facts)
        case EventCondition():
            raise NeedsDatabase(f"events of type {condition.event} are counted there")
        case SegmentCondition():
            raise NeedsDatabase(f"the members of {condition.in_segment} are kept there")
        case RelatedCondition():
            raise NeedsDatabase(f"what is related as {condition.related} is kept there")


def compare(value: object, condition: FieldCondition, facts: Facts) -> bool:
    """Decide one comparison for the value that its field has (`None`: missing)."""
    if value is None or condition.op in _PRESENCE:
        return (value is None) == (condition.op == "missing")
    literal = condition.value
    match condition.op:
        case "=" | "!=":
            decided = _same(value, literal)
        case "in" | "not_in":
            decided = any(map(partial(_same, value), cast("list[object]", literal)))
        case "contains":
            decided = _contains(value, literal)
        case "starts_with":
            decided = isinstance(value, str) and value.startswith(str(literal))
        case "older_than" | "newer_than" | "anniversary_in":
            decided = _relative(condition.op, value, condition.duration(), facts)
        case op:
            decided = _ordered(_ORDER[op], value, literal)
    return decided is not (condition.op in _DENIALS)


def match_values(match: Mapping[FieldPath, FieldPath], entry: Properties) -> dict[str, str] | None:
    """Return what an event's properties must be, `{"cart_id": "c1"}`, for one who entered with `entry`.

    `None` when a value is missing from the entry: no event can match then.
    """
    wanted = {".".join(event.path[1:]): key_text(dig(entry, own.path)) for event, own in match.items()}
    return _complete(wanted)


def property_values(names: Iterable[str], properties: Properties) -> dict[str, str] | None:
    """Return the event's side of `match_values`: the same names in its properties, `None` when one is missing."""
    return _complete({name: key_text(dig(properties, tuple(name.split(".")))) for name in names})


def matches(match: Mapping[FieldPath, FieldPath], entry: Properties, properties: Properties) -> bool:
    """Whether an event with these properties is the one that who entered by `entry` means."""
    wanted = match_values(match, entry)
    return wanted is not None and property_values(wanted, properties) == wanted


def key_text(value: object) -> str | None:
    """Return a value as text, as JSONB's `->>` does: the number 5 and the string "5" are one key.

    `None` for what is no key: a missing, empty or overlong value, an object or a list.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = as_number(value)
        text = "" if number is None else f"{number or abs(number):f}"
    else:
        text = value if isinstance(value, str) else ""
    return text if 0 < len(text) <= MAX_KEY_LENGTH else None


def dig(value: object, path: tuple[str, ...]) -> object:
    """Return what a path leads to inside nested objects, `None` when it is missing."""
    for step in path:
        if not isinstance(value, (dict, Mapping)):  # dict first: asking an abstract class is slow
            return None
        value = cast("Mapping[str, object]", value).get(step)
    return value


_PRESENCE: Final = frozenset({"exists", "missing"})
_DENIALS: Final = frozenset({"!=", "not_in"})
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_FEBRUARY_29: Final = (2, 29)
_LENGTH_OF_DATE: Final = len("2026-01-31")


def _combine(conditions: tuple[Condition, ...], facts: Facts, *, deciding: bool) -> bool:
    unknown: NeedsDatabase | None = None
    for condition in conditions:
        try:
            if evaluate(condition, facts) is deciding:
                return deciding
        except NeedsDatabase as needs:
            unknown = needs
    if unknown is not None:
        raise unknown
    return not deciding


def _look_up(field: FieldPath, facts: Facts) -> object:
    roots = {"event": facts.event, "person": facts.person, "entry": facts.entry}
    held = roots.get(field.root)
    if held is None:
        raise NeedsDatabase(f"{field} is kept there")
    return dig(held, field.path)


def _same(value: object, literal: object) -> bool:
    match literal_kind(literal):
        case "number":
            number = as_number(value)
            return number is not None and number == as_number(literal)
        case "date":
            instant = as_date(value)
            return instant is not None and instant == as_date(literal)
        case "text":
            return isinstance(value, str) and value == literal
        case "boolean":
            return value is literal


def _contains(value: object, literal: JsonValue) -> bool:
    if isinstance(value, str):
        return isinstance(literal, str) and literal in value
    return isinstance(value, list) and any(_same(part, literal) for part in cast("list[object]", value))


def _ordered(order: Callable[[Any, Any], bool], value: object, literal: JsonValue) -> bool:
    convert = as_number if literal_kind(literal) == "number" else as_date
    converted = convert(value)
    return converted is not None and order(converted, convert(literal))


def _relative(op: str, value: object, duration: Duration, facts: Facts) -> bool:
    instant = as_date(value)
    if instant is None:
        return False
    if op == "anniversary_in":
        alone = isinstance(value, str) and len(value) == _LENGTH_OF_DATE
        day = instant.date() if alone else _day_in(facts.zone, instant)
        return _anniversary_within(day, facts.now.astimezone(facts.zone).date(), duration)
    older = instant < subtract(facts.now, duration)
    return older is (op == "older_than")


def _anniversary_within(day: date, today: date, duration: Duration) -> bool:
    end = add(datetime(today.year, today.month, today.day, tzinfo=UTC), duration).date()
    return any(today <= _in_year(day, year) < end for year in (today.year, today.year + 1))


def _day_in(zone: tz, instant: datetime) -> date:
    try:
        return instant.astimezone(zone).date()
    except OverflowError:  # Beyond the year 9999 there.
        return instant.date()


def _in_year(day: date, year: int) -> date:
    if (day.month, day.day) == _FEBRUARY_29:
        return date(year, 3, 1) - timedelta(days=1)
    return day.replace(year=year)


def _complete(values: Mapping[str, str | None]) -> dict[str, str] | None:
    found = {name: value for name, value in values.items() if value is not None}
    return found if len(found) == len(values) else None
