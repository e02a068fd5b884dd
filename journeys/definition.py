"""A journey as its author writes it: entries, nodes, goal and exit rules.

The models check the form; whether the graph, its fields and its templates make sense is `journeys.validation`. A
definition is stored as `to_json()` gives it, which is what its author sent.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from journeys.command_nodes import NodeId
from journeys.conditions import EventType, RootCondition, Strict
from journeys.durations import Duration, DurationText
from journeys.entries import ApiEntry, Enterable, Entries, Entry, ManualEntry
from journeys.matching import Match
from journeys.nodes import GoalNode, Node

MAX_NODES: Final = 500
MAX_EXIT_RULES: Final = 50
LONGEST_COUNTED: Final = Duration.parse("P90D")
"""A goal reached later is no conversion, unless its `within` says so."""


class Goal(Strict):
    """What the journey is for: reached, it ends the enrollment at any node."""

    event: EventType
    match: Match
    where: RootCondition | None = None
    within: DurationText | None = None
    """Counts only within this long after the entry."""

    @property
    def counted_within(self) -> Duration:
        """How long after the entry it is a conversion, whether the passage is still open or not."""
        return self.within or LONGEST_COUNTED


class ExitRule(Strict):
    """An event that ends the enrollment at any node, without success."""

    event: EventType
    match: Match
    where: RootCondition | None = None


class JourneyDefinition(Strict):
    """A whole journey, as stored in a version."""

    subject: Literal["person", "deal"] = "person"
    entry: Entries
    start: NodeId
    nodes: Annotated[dict[NodeId, Node], Field(min_length=1, max_length=MAX_NODES)]
    goal: Goal | None = None
    exit_when: Annotated[tuple[ExitRule, ...], Field(max_length=MAX_EXIT_RULES)] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The ways in, also where there is just one."""
        return self.entry if isinstance(self.entry, tuple) else (self.entry,)

    @property
    def placed_entries(self) -> list[tuple[tuple[str | int, ...], Entry]]:
        """The ways in, each with its place in the definition."""
        several = isinstance(self.entry, tuple)
        return [(("entry", ordinal) if several else ("entry",), entry) for ordinal, entry in enumerate(self.entries)]

    @property
    def has_goal(self) -> bool:
        """Whether anybody can convert: by an event, or at a node."""
        return self.goal is not None or any(isinstance(node, GoalNode) for node in self.nodes.values())

    @property
    def by_api(self) -> Enterable:
        """How often and by which key an enrollment by the API may happen.

        As the `api` entry says; without one, as the first entry with a key of its own says; else once.
        """
        entries = [entry for entry in self.entries if isinstance(entry, Enterable)]
        return next(
            (entry for entry in entries if isinstance(entry, ApiEntry)),
            entries[0] if entries else ApiEntry(api=True, again=self.entries[0].again),
        )

    @property
    def by_hand(self) -> Enterable:
        """How often and by which key a teammate may let somebody in: by the `manual` entry, else as for the API."""
        return next((entry for entry in self.entries if isinstance(entry, ManualEntry)), self.by_api)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that its author wrote: nothing added, nothing renamed."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a definition, for editors and `/v1/journeys/schema`."""
    return JourneyDefinition.model_json_schema(by_alias=True)
