"""What nodes and their ways out are called where people look at a journey: a few words each."""

from typing import Any, cast

from journeys.arms import ARM, SplitNode
from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    FieldCondition,
    Not,
    RelatedCondition,
    SegmentCondition,
)
from journeys.durations import Duration
from journeys.nodes import BranchNode, ExitNode, GoalNode, Node, SendNode, UpdatePersonNode
from journeys.waits import (
    DAYS,
    MET,
    ConditionWay,
    EventWay,
    SegmentWay,
    TimeWindowNode,
    WaitForEventNode,
    WaitNode,
    WaitUntilNode,
)

_TOLD = ("name", "title", "template", "pipeline", "stage", "segment", "object", "journey", "url", "event", "reason")
"""Fields that say of any node what it is about, the first that it has."""


def duration(given: Duration) -> str:
    """Return a duration in words: `1 day`, `2 hours 30 minutes`."""
    seconds = int(given.elapsed.total_seconds())
    parts = (
        (given.months // 12, "year"),
        (given.months % 12, "month"),
        (given.days, "day"),
        (seconds // 3600, "hour"),
        (seconds // 60 % 60, "minute"),
        (seconds % 60, "second"),
    )
    return " ".join(f"{count} {unit}{'s' if count > 1 else ''}" for count, unit in parts if count) or str(given)


def node(given: Node) -> str:  # noqa: PLR0911 - one for each kind
    """Return what a node does."""
    match given:
        case WaitNode() | TimeWindowNode() | WaitForEventNode() | WaitUntilNode():
            return _wait(given)
        case BranchNode():
            return f"{len(given.branches) + 1} ways"
        case SplitNode():
            return " / ".join(f"{arm.share} %" for arm in given.arms)
        case SendNode():
            return f"{given.channel} {given.template}"
        case UpdatePersonNode():
            return ", ".join(name.removeprefix("attributes.") for name in given.set)
        case ExitNode() | GoalNode():
            return given.reason if isinstance(given, ExitNode) else given.name
        case _:
            return next((str(value) for name in _TOLD if (value := getattr(given, name, None))), "")


def _wait(given: WaitNode | TimeWindowNode | WaitForEventNode | WaitUntilNode) -> str:
    match given:
        case WaitNode() if given.until is not None:
            offset = given.offset
            moved = f"{duration(offset.duration)} {'before' if offset.before else 'after'} " if offset else ""
            return f"{moved}{given.until.path[-1]}"
        case WaitNode():
            parts = [duration(given.duration)] if given.duration else []
            parts += [f"until {given.until_time:%H:%M}"] if given.until_time else []
            return ", ".join(parts) or "wait"
        case TimeWindowNode():
            parts = [] if len(given.days) == len(DAYS) else [" ".join(given.days)]
            parts += [] if given.since is None else [f"{given.since:%H:%M} to {given.until:%H:%M}"]
            return ", ".join(parts) or "any time"
        case WaitForEventNode():
            return f"{given.event}, at most {duration(given.timeout)}"
        case WaitUntilNode():
            return f"{' or '.join(map(_way, given.ways))}, at most {duration(given.timeout)}"


def outcome(given: Node, name: str) -> str:
    """Return what a way out of a node is called; empty where there is nothing to say."""
    match given:
        case BranchNode() if name.startswith("branch_"):
            return condition(given.branches[int(name.removeprefix("branch_"))].when)
        case WaitUntilNode() if name.startswith(MET):
            return _way(given.ways[int(name.removeprefix(MET))])
        case SplitNode():
            arm = next(arm for arm in given.arms if ARM + arm.key == name)
            return f"{arm.key} {arm.share} %"
        case _:
            return "" if name in {"done", "elapsed"} else name.replace("_", " ")


def _way(given: EventWay | ConditionWay | SegmentWay) -> str:
    match given:
        case EventWay():
            return given.event
        case ConditionWay():
            return condition(given.when)
        case SegmentWay():
            return f"in {given.segment}"


def condition(given: Condition) -> str:
    """Return a condition in short."""
    match given:
        case FieldCondition():
            return f"{given.field.path[-1]} {given.op.replace('_', ' ')} {_value(given.value)}".strip()
        case EventCondition():
            return f"{given.event} {given.count.op} {given.count.value}"
        case SegmentCondition():
            return f"in {given.in_segment}"
        case RelatedCondition():
            return f"has {given.related}"
        case Not():
            return f"not {condition(given.condition)}"
        case AllOf() | AnyOf():
            between = " and " if isinstance(given, AllOf) else " or "
            return between.join(condition(part) for part in given.conditions)


def _value(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)
