"""What a journey names of the tenant's other things."""

from collections.abc import Iterator

from journeys.conditions import Condition, segments_of
from journeys.definition import JourneyDefinition
from journeys.entries import CronEntry, EventEntry, SegmentEntry
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from journeys.nodes import BranchNode, Node
from journeys.waits import ConditionWay, EventWay, SegmentWay, WaitForEventNode, WaitUntilNode


def segments_named(definition: JourneyDefinition) -> frozenset[str]:
    """Return the keys of the segments that it asks about, is entered by, or changes."""
    named = {entry.segment for entry in definition.entries if isinstance(entry, SegmentEntry | CronEntry)}
    named |= {
        node.segment for node in definition.nodes.values() if isinstance(node, AddToSegmentNode | RemoveFromSegmentNode)
    }
    named |= {
        way.segment
        for node in definition.nodes.values()
        if isinstance(node, WaitUntilNode)
        for way in node.ways
        if isinstance(way, SegmentWay)
    }
    return frozenset(named).union(*(segments_of(condition) for condition in conditions_in(definition)))


def conditions_in(definition: JourneyDefinition) -> Iterator[Condition]:
    """Yield every condition of a journey."""
    for entry in definition.entries:
        if isinstance(entry, EventEntry) and entry.where is not None:
            yield entry.where
    for node in definition.nodes.values():
        yield from _asked_at(node)
    for rule in (definition.goal, *definition.exit_when):
        if rule is not None and rule.where is not None:
            yield rule.where


def _asked_at(node: Node) -> Iterator[Condition]:
    match node:
        case BranchNode():
            yield from (branch.when for branch in node.branches)
        case WaitForEventNode(where=where) if where is not None:
            yield where
        case WaitUntilNode():
            for way in node.ways:
                if isinstance(way, ConditionWay):
                    yield way.when
                elif isinstance(way, EventWay) and way.where is not None:
                    yield way.where
        case _:
            pass
