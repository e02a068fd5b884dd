"""What differs between two definitions of a journey: nodes added, removed and changed, and the rules around them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from journeys.definition import JourneyDefinition

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Change:
    """A field with its values; None also where there is none."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """What is another way in the later definition."""

    added: tuple[str, ...] = ()
    """Nodes, by name."""
    removed: tuple[str, ...] = ()
    changed: Mapping[str, Mapping[str, Change]] = field(default_factory=dict[str, Mapping[str, Change]])
    """By node and field."""
    rules: Mapping[str, Change] = field(default_factory=dict[str, Change])
    """What stands beside the nodes: `entry`, `start`, `goal`, `exit_when`, `subject` and the like."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.removed or self.changed or self.rules)


def between(before: JourneyDefinition, after: JourneyDefinition) -> Difference:
    """Return what makes `after` another journey than `before`, values as their authors wrote them.

    What is left out and what is written as its default are the same.
    """
    old, new = _full(before), _full(after)
    old_nodes, new_nodes = old.pop("nodes"), new.pop("nodes")
    changed = {
        name: fields
        for name in sorted(old_nodes.keys() & new_nodes.keys())
        if (fields := _fields(old_nodes[name], new_nodes[name]))
    }
    return Difference(
        added=tuple(sorted(new_nodes.keys() - old_nodes.keys())),
        removed=tuple(sorted(old_nodes.keys() - new_nodes.keys())),
        changed=changed,
        rules=_fields(old, new),
    )


def _full(definition: JourneyDefinition) -> dict[str, Any]:
    return definition.model_dump(mode="json", by_alias=True)


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Change]:
    return {
        name: Change(old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _MISSING) != new.get(name, _MISSING)
    }
