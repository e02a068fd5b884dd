"""What a simulation cannot know of a journey's ways in, in words for its author."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from contracts.events import (
    DEAL_LOST,
    DEAL_MOVED,
    DEAL_REOPENED,
    DEAL_STAGE_ENTERED,
    DEAL_STAGE_LEFT,
    DEAL_UPDATED,
    DEAL_WON,
    PERSON_UPDATED,
)
from journeys.checking import Place, dotted
from journeys.command_nodes import AssignOwnerNode, MoveDealNode, UpdateDealNode
from journeys.definition import JourneyDefinition
from journeys.entries import CronEntry, DateEntry, EventEntry, SegmentEntry, entry_kind
from journeys.nodes import UpdatePersonNode
from services.shared.computed import COMPUTED

_ZONE: Final = "time_zone"
_BROUGHT: Final[Mapping[type[Any], tuple[str, ...]]] = MappingProxyType(
    {
        MoveDealNode: (DEAL_STAGE_LEFT, DEAL_MOVED, DEAL_WON, DEAL_LOST, DEAL_REOPENED, DEAL_STAGE_ENTERED),
        UpdateDealNode: (DEAL_UPDATED,),
        AssignOwnerNode: (DEAL_UPDATED, PERSON_UPDATED),
        UpdatePersonNode: (PERSON_UPDATED,),
    }
)
"""What nodes bring about that may let somebody in."""


def gaps(definition: JourneyDefinition) -> list[dict[str, str]]:
    """Return the places in the definition that may let in others, or at other times, and why."""
    return [{"field": dotted(place), "reason": reason} for place, reason in _gaps(definition)]


def _gaps(definition: JourneyDefinition) -> Iterator[tuple[Place, str]]:
    updates = (node.set for node in definition.nodes.values() if isinstance(node, UpdatePersonNode))
    changed = {name for update in updates for name in update}
    types = {type(node) for node in definition.nodes.values()}
    brought = {event for kind, events in _BROUGHT.items() if kind in types for event in events}
    for place, entry in definition.placed_entries:
        match entry:
            case EventEntry(event=event) if event in brought:
                yield (*place, "event"), "what the journey's own nodes bring about lets nobody in here"
            case DateEntry(date=field):
                name = ".".join(field.path)
                if field.path[0] in COMPUTED:
                    yield (*place, "date"), f"{field} changes with what people will do: it is taken as it is now"
                for of in sorted(changed & {name, _ZONE}):
                    yield (*place, "date"), f"the journey itself sets person.{of}: moments go by what it is now"
            case CronEntry(segment=segment):
                yield (
                    (*place, "segment"),
                    f"who will be in {segment} by then: it is those of now, as the journey changes them",
                )
            case EventEntry() | SegmentEntry():
                pass
            case _:
                yield (*place, entry_kind(entry)), "whom others let in is not known before: nobody enters by this"
