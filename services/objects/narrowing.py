"""What of a filter an index can answer: never too few records, so the filter itself decides on what is found."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from journeys.attributes import DAY_LENGTH, Defined
from journeys.conditions import AllOf, Condition, FieldCondition
from journeys.durations import Duration
from journeys.literals import as_date, as_number, is_number, literal_kind
from services.objects import values
from services.objects.entries import Kept
from services.objects.values import DATES, NUMBERS, Range

SLACK: Final = timedelta(days=2)
"""By how much a bound that moves with time is taken too wide: clocks differ, and plans are kept for a while."""

_END: Final = "\x01"
"""Behind a value: what is less than this and not less than the value is the value."""


@dataclass(slots=True)
class Narrowed:
    """What the records that a filter lets through have in common."""

    contained: dict[str, Any] = field(default_factory=dict[str, Any])
    """Their properties contain this."""
    ranges: dict[str, Range] = field(default_factory=dict[str, Range])
    """Their values of these properties lie there."""
    moving: bool = False
    """Whether a bound moves with time."""
    whole: bool = True
    """Whether this is all that the filter asks, but for rare exceptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of an object's records."""

    types: Mapping[str, Defined | None]
    kept: Mapping[str, Kept]
    has_misfits: bool
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def narrow(condition: Condition | None, known: Known) -> Narrowed:
    """Return what indexes can find of the records that a filter lets through."""
    found = Narrowed()
    for part in _conjuncts(condition):
        found.whole &= isinstance(part, FieldCondition) and _add(found, part, known)
    return found


def _conjuncts(condition: Condition | None) -> Iterator[Condition]:
    if isinstance(condition, AllOf):
        for part in condition.conditions:
            yield from _conjuncts(part)
    elif condition is not None:
        yield condition


def _add(found: Narrowed, condition: FieldCondition, known: Known) -> bool:
    name = condition.field.path[0]
    kept = known.kept.get(name) if len(condition.field.path) == 1 else None
    lying = None if kept is None else _range(condition, kept, known)
    contained = _contained(condition, known)
    # One of them is enough; together they would seem rarer than they are. Of a unique property there is one at most.
    if contained is not None and not (lying and kept and kept.unique):
        return _merge(found.contained, contained)
    if lying is None:
        return False
    before = found.ranges.get(name)
    found.ranges[name] = (
        lying if before is None else replace(lying, low=max(before.low, lying.low), high=min(before.high, lying.high))
    )
    found.moving |= condition.op in {"older_than", "newer_than"}
    return True


def _merge(contained: dict[str, Any], more: dict[str, Any]) -> bool:
    """Add to what is contained; say whether all of it could be: two values of one property cannot."""
    for name, value in more.items():
        held = contained.setdefault(name, value)
        if isinstance(held, dict) and isinstance(value, dict) and held is not value:
            if not _merge(cast("dict[str, Any]", held), cast("dict[str, Any]", value)):
                return False
        elif held is not value:
            return False
    return True


def _contained(condition: FieldCondition, known: Known) -> dict[str, Any] | None:
    """Return what a record's properties contain where the condition holds; None where that cannot be said."""
    given, path = condition.value, condition.field.path
    if path[0] not in known.types:
        return None
    defined = known.types[path[0]] if len(path) == 1 and not known.has_misfits else None
    if condition.op == "contains":
        if defined is None or defined.type != "list" or literal_kind(given) != "text":
            return None
        given = [given]
    elif condition.op != "=" or not _is_exact(given, defined):
        return None
    for step in reversed(path):
        given = {step: given}
    return cast("dict[str, Any]", given)


def _is_exact(given: object, defined: Defined | None) -> bool:
    """Whether only the same JSON value equals a literal."""
    match literal_kind(given):
        case "text" | "boolean":
            return True
        case "number":
            return defined is not None and defined.type == "number"
        case "date":
            return defined is not None and defined.type == "date" and len(str(given)) == DAY_LENGTH


def _range(condition: FieldCondition, kept: Kept, known: Known) -> Range | None:
    """Return where the kept values of a property lie where the condition holds; None where that cannot be said."""
    defined = known.types.get(kept.property)
    if defined is None:
        return None
    find = _RANGES.get(defined.type)
    if find is None or (defined.type == "number" and known.has_misfits):
        return None  # a text that looks like a number compares as one, and sorts as a text
    return find(condition, known.now)


def _of_texts(condition: FieldCondition, _now: datetime) -> Range | None:
    given = condition.value
    match condition.op:
        case "starts_with":
            return values.beginning_with(str(given))
        case "=" | "in":
            choices = given if isinstance(given, list) else [given]
            if any(literal_kind(choice) != "text" for choice in choices):
                return None
            encoded = [values.text(str(choice)) for choice in choices]
            return Range(min(encoded), max(encoded) + _END)
        case _:
            return None


def _of_numbers(condition: FieldCondition, _now: datetime) -> Range | None:
    choices = condition.value if isinstance(condition.value, list) else [condition.value]
    if not all(map(is_number, choices)):
        return None
    encoded = [values.number(number) for choice in choices if (number := as_number(choice)) is not None]
    return _between(condition.op, min(encoded), max(encoded), NUMBERS, _END)


def _of_dates(condition: FieldCondition, now: datetime) -> Range | None:
    if condition.op in {"older_than", "newer_than"}:
        return _since(condition.op, condition.duration(), now)
    choices = condition.value if isinstance(condition.value, list) else [condition.value]
    instants = [at for choice in choices if (at := as_date(choice)) is not None]
    if len(instants) < len(choices) or not choices:
        return None
    encoded = [values.instant(at) for at in instants]
    return _between(condition.op, min(encoded), max(encoded), DATES, "~")


def _since(op: str, duration: Duration, now: datetime) -> Range | None:
    try:
        then = now - duration.elapsed - timedelta(days=duration.days + 31 * duration.months)
        later = now - duration.elapsed - timedelta(days=duration.days + 28 * duration.months)
        edges = values.instant(then - SLACK), values.instant(later + SLACK)
    except OverflowError:
        return None
    return Range(edges[0], DATES.high) if op == "newer_than" else Range(DATES.low, edges[1])


def _between(op: str, low: str, high: str, kind: Range, end: str) -> Range | None:
    """Return the range of an operator; `end` behind a value comes after all that begin with it."""
    match op:
        case "=" | "in":
            return Range(low, high + end)
        case ">" | ">=":
            return Range(low, kind.high)
        case "<" | "<=":
            return Range(kind.low, high + end)
        case _:
            return None


_RANGES: Final[Mapping[str, Callable[[FieldCondition, datetime], Range | None]]] = {
    "text": _of_texts,
    "choice": _of_texts,
    "number": _of_numbers,
    "date": _of_dates,
    "datetime": _of_dates,
}
