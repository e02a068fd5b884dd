"""Conditions and waits in plain words, with the values that were seen when they were decided."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, assert_never

from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    FieldCondition,
    Not,
    RelatedCondition,
    SegmentCondition,
    children,
)
from journeys.waits import DAYS, ConditionWay, EventWay, SegmentWay, TimeWindowNode, WaitNode, WaitUntilNode

MAX_SEEN: Final = 40
"""Values kept of one decision; conditions with more are told without the rest."""

_OPERATORS: Final[Mapping[str, str]] = {
    "=": "is",
    "!=": "is not",
    ">": "is above",
    ">=": "is at least",
    "<": "is below",
    "<=": "is at most",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "starts_with": "starts with",
    "exists": "is there",
    "missing": "is missing",
    "older_than": "is longer ago than",
    "newer_than": "is not longer ago than",
    "anniversary_in": "comes round within",
}
_COUNTS: Final[Mapping[str, str]] = {
    "=": "exactly",
    "!=": "other than",
    ">": "more than",
    ">=": "at least",
    "<": "fewer than",
    "<=": "at most",
}


def seen_by_key(conditions: Iterable[Condition]) -> dict[str, Condition]:
    """Return the conditions of whose decision a value can be kept, by the key it is kept under: the first `MAX_SEEN`.

    Those inside a `where` are about one thing of many: there is no one value of theirs.
    """
    found: dict[str, Condition] = {}

    def visit(condition: Condition) -> None:
        match condition:
            case FieldCondition() | SegmentCondition() | EventCondition():
                found.setdefault(_key(condition), condition)
            case _:
                for place, part in children(condition):
                    if place != ("where",):
                        visit(part)

    for condition in conditions:
        visit(condition)
    return dict(list(found.items())[:MAX_SEEN])


def _key(condition: FieldCondition | SegmentCondition | EventCondition) -> str:
    match condition:
        case FieldCondition():
            return str(condition.field)
        case SegmentCondition():
            return f"segment {condition.in_segment}"
        case EventCondition():
            return _happened(condition)


def condition_words(condition: Condition, seen: Mapping[str, Any] | None = None) -> str:
    """Return a condition as a clause: `person.attributes.plan is "pro" (it was "free")`."""
    seen = seen or {}
    match condition:
        case AllOf() | AnyOf():
            return _joined(condition.conditions, "and" if isinstance(condition, AllOf) else "or", seen)
        case Not():
            return f"not ({condition_words(condition.condition, seen)})"
        case FieldCondition():
            return f"{_compared(condition)}{_was(_key(condition), seen)}"
        case SegmentCondition():
            was = seen.get(_key(condition))
            known = "" if was is None else " (it was so)" if was else " (it was not so)"
            return f"the person is in the segment {condition.in_segment}{known}"
        case EventCondition():
            return f"{_happened(condition)}{_was(_key(condition), seen)}"
        case RelatedCondition():
            where = f" for which {condition_words(condition.where)}" if condition.where else ""
            return f"there is a related {condition.related}{where}"
        case _:
            assert_never(condition)


def wait_words(node: WaitNode | TimeWindowNode | WaitUntilNode) -> str:
    """Return until when a wait lasts: `for P1D, then until 09:00 by the person's clock`."""
    match node:
        case WaitNode() if node.until is not None:
            return _dated_words(node)
        case WaitNode():
            parts = [] if node.duration is None else [f"for {node.duration}"]
            if node.until_time is not None:
                parts.append(f"until {node.until_time:%H:%M} {_clock_words(node.clock_of)}")
            return ", then ".join(parts)
        case TimeWindowNode():
            days = "any day" if len(node.days) == len(DAYS) else ", ".join(node.days)
            since = "" if node.since is None else f" from {node.since:%H:%M} to {node.until:%H:%M}"
            return f"for {days}{since} {_clock_words(node.clock_of)}"
        case WaitUntilNode():
            return f"until {' or '.join(map(way_words, node.ways))}, for {node.timeout} at most"


def way_words(way: EventWay | ConditionWay | SegmentWay) -> str:
    """Return what opens a way out of a wait until something is so, as a clause."""
    match way:
        case EventWay():
            where = f" where {condition_words(way.where)}" if way.where else ""
            return f"{way.event} comes{where}"
        case ConditionWay():
            return condition_words(way.when)
        case SegmentWay():
            return f"the person is in the segment {way.segment}"


def _dated_words(node: WaitNode) -> str:
    """Return `until 09:00 of the day P3D before person.attributes.renews_on, each year, by the person's clock`."""
    moved = ""
    if node.offset is not None:
        moved = f"{node.offset.duration} {'before' if node.offset.before else 'after'} "
    time = "" if node.until_time is None else f"{node.until_time:%H:%M} of the day "
    yearly = ", each year" if node.yearly else ""
    return f"until {time}{moved}{node.until}{yearly}, {_clock_words(node.clock_of)}"


def _clock_words(clock: str) -> str:
    clocks = {"person": "the person's clock", "tenant": "the tenant's clock"}
    return f"by {clocks.get(clock, f'the clock of {clock}')}"


def value_words(value: object) -> str:
    """Return a JSON value as one reads it in a sentence."""
    match value:
        case None:
            return "missing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case list():
            return ", ".join(map(value_words, value))  # pyright: ignore[reportUnknownArgumentType]  # JSON
        case _:
            return str(value)


def _compared(condition: FieldCondition) -> str:
    words = f"{condition.field} {_OPERATORS[condition.op]}"
    if condition.op in {"exists", "missing"}:
        return words
    relative = condition.op in {"older_than", "newer_than", "anniversary_in"}
    return f"{words} {condition.value if relative else value_words(condition.value)}"


def _happened(condition: EventCondition) -> str:
    times = f"{_COUNTS[condition.count.op]} {condition.count.value} times"
    within = f" within {condition.within}" if condition.within else ""
    where = f" where {condition_words(condition.where)}" if condition.where else ""
    return f"{condition.event} happened {times}{within}{where}"


def _was(key: str, seen: Mapping[str, Any]) -> str:
    return f" (it was {value_words(seen[key])})" if key in seen else ""


def _joined(conditions: Iterable[Condition], word: str, seen: Mapping[str, Any]) -> str:
    parts = [
        f"({condition_words(part, seen)})" if isinstance(part, AllOf | AnyOf) else condition_words(part, seen)
        for part in conditions
    ]
    return f" {word} ".join(parts)
