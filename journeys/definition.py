"""A journey as its author writes it: entries, nodes, goal and exit rules.

The models check the form; whether the graph, its fields and its templates make sense is `journeys.validation`. A
definition is stored as `to_json()` gives it, which is what its author sent.
"""

from datetime import datetime, time
from typing import Annotated, Any, Final, Literal, TypeAlias, cast
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
    model_validator,
)

from journeys.command_nodes import SALES, CommandNode
from journeys.conditions import EventType, FieldPath, FieldPathText, Key, RootCondition, Strict
from journeys.durations import DurationText, TimeOfDay, add, next_time_of_day, zone_named
from journeys.literals import storable

MAX_NODES: Final = 500
MAX_BRANCHES: Final = 50
MAX_ENTRIES: Final = 20
MAX_EXIT_RULES: Final = 50

NodeId = Key
"""What a node is called in its graph, and in steps, statistics and dedupe keys."""


def _event_property(path: FieldPath) -> FieldPath:
    if path.root != "event" or path.path[0] != "properties" or len(path.path) == 1:
        raise ValueError("must be a property of the event, as in event.properties.cart_id")
    return path


def _entry_property(path: FieldPath) -> FieldPath:
    if path.root != "entry":
        raise ValueError("must be a property of the entry event, as in entry.cart_id")
    return path


def _entry_key(path: FieldPath) -> FieldPath:
    return path if path.root == "entry" else _event_property(path)


def _person_field(path: FieldPath) -> FieldPath:
    if path.root != "person":
        raise ValueError("must be a field of the person, as in person.attributes.birthday")
    return path


def _storable(value: object) -> object:
    storable(value)
    return value


EventProperty = Annotated[FieldPathText, AfterValidator(_event_property)]
EntryProperty = Annotated[FieldPathText, AfterValidator(_entry_property)]
Match = Annotated[dict[EventProperty, EntryProperty], Field(default_factory=dict, max_length=10)]
"""Properties of an event that must equal properties of the entry: `{"event.properties.cart_id": "entry.cart_id"}`."""

EntryKey = Annotated[FieldPathText, AfterValidator(_entry_key)]
"""What makes two enrollments of one subject distinct: `event.properties.X`, or `entry.X` which is the same."""


class Again(Strict):
    """Whether a subject may enter once more; with a key, the rule holds per key."""

    mode: Literal["never", "when_not_active", "always"] = "never"
    min_gap: DurationText | None = None
    """At least this long after the last entry."""


class Enterable(Strict):
    """What all ways into a journey have."""

    key: EntryKey | None = None
    again: Again = Again()

    @property
    def key_path(self) -> tuple[str, ...] | None:
        """Where the key is found in the entry's properties."""
        if self.key is None:
            return None
        return self.key.path if self.key.root == "entry" else self.key.path[1:]


class EventEntry(Enterable):
    """Enter when an event arrives."""

    event: EventType
    where: RootCondition | None = None


class ApiEntry(Enterable):
    """Enter by `POST /journeys/{id}/enrollments`; always possible, this says how often and by which key."""

    api: Literal[True]


class ManualEntry(Enterable):
    """Enter by a person's decision in the console."""

    manual: Literal[True]


class SegmentEntry(Strict):
    """Enter on becoming, or ceasing to be, a member of a segment."""

    segment: Key
    on: Literal["entered", "left"] = "entered"
    again: Again = Again()


class DateEntry(Strict):
    """Enter on the day that a date of the person names, at a time of day in the person's zone."""

    date: Annotated[FieldPathText, AfterValidator(_person_field)]
    yearly: bool = False
    at: TimeOfDay = time(9)
    again: Again = Again()


class CronEntry(Strict):
    """Enter all members of a segment on a schedule, in the tenant's zone."""

    cron: Annotated[str, Field(max_length=100, pattern=r"^[0-9*/,-]+(?: [0-9A-Za-z*/,-]+){4}$")]
    """Five fields: minute, hour, day of the month, month, day of the week."""
    segment: Key
    again: Again = Again()


_ENTRY_KINDS: Final[dict[type[Strict], str]] = {
    EventEntry: "event",
    ApiEntry: "api",
    ManualEntry: "manual",
    CronEntry: "cron",
    DateEntry: "date",
    SegmentEntry: "segment",
}


def entry_kind(entry: "Entry") -> str:
    """Return which entry this is: `event`, `api`, `manual`, `segment`, `date` or `cron`."""
    return _ENTRY_KINDS[type(entry)]


def _entry_tag(entry: Any) -> str | None:  # noqa: ANN401 - whatever JSON holds
    if isinstance(entry, dict):
        # A schedule names a segment too, so it is asked for first.
        kind = next((kind for kind in _ENTRY_KINDS.values() if kind in entry), None)
    else:
        kind = _ENTRY_KINDS.get(cast("type[Strict]", type(entry)))
    return kind and f"<{kind}>"


Entry: TypeAlias = Annotated[
    Annotated[EventEntry, Tag("<event>")]
    | Annotated[ApiEntry, Tag("<api>")]
    | Annotated[ManualEntry, Tag("<manual>")]
    | Annotated[SegmentEntry, Tag("<segment>")]
    | Annotated[DateEntry, Tag("<date>")]
    | Annotated[CronEntry, Tag("<cron>")],
    Discriminator(
        _entry_tag,
        custom_error_type="entry_kind",
        custom_error_message="must be an entry: an object with one of event, api, manual, segment, date, cron",
    ),
]
"""One way into a journey."""


def _one_or_many(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return "<many>" if isinstance(value, list | tuple) else "<one>"


Entries: TypeAlias = Annotated[
    Annotated[Entry, Tag("<one>")]
    | Annotated[tuple[Entry, ...], Field(min_length=1, max_length=MAX_ENTRIES), Tag("<many>")],
    Discriminator(_one_or_many),
]


class WaitNode(Strict):
    """Wait for a time, until a time of day, or first the one and then until the other."""

    type: Literal["wait"]
    duration: Annotated[DurationText | None, Field(alias="for")] = None
    until_time: TimeOfDay | None = None
    zone: Annotated[str | None, Field(examples=["person", "tenant", "Europe/Berlin"])] = None
    """Whose wall clock `until_time` and the days of `for` mean; `person` where `until_time` is given, else UTC."""
    next: NodeId

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone not in {None, "person", "tenant"}:
            zone_named(zone or "")
        return zone

    @model_validator(mode="after")
    def _waits(self) -> "WaitNode":
        if self.duration is None and self.until_time is None:
            raise ValueError("a wait needs `for`, `until_time` or both")
        if self.zone is not None and self.until_time is None:
            raise ValueError("`zone` needs `until_time`")
        return self

    @property
    def clock_of(self) -> str:
        """Return `person`, `tenant` or the name of the zone whose clock counts."""
        return self.zone or ("person" if self.until_time else "UTC")

    def due(self, at: datetime, zone: ZoneInfo) -> datetime:
        """Return the UTC instant until which one who arrives at `at` waits, by the clock of `zone`."""
        if self.duration is not None:
            at = add(at, self.duration, zone)
        if self.until_time is not None:
            # Without a duration an arrival on the dot waits a day: a loop over this node must take time.
            at = next_time_of_day(at, self.until_time, zone, inclusive=self.duration is not None)
        return at


class WaitForEventNode(Strict):
    """Wait until an event of the subject arrives, or the time is over."""

    type: Literal["wait_for_event"]
    event: EventType
    match: Match
    where: RootCondition | None = None
    timeout: DurationText
    matched: NodeId
    timed_out: NodeId


class Branch(Strict):
    """One way out of a branch node."""

    when: RootCondition
    next: NodeId


class BranchNode(Strict):
    """Go the way of the first condition that holds on arrival, or `otherwise`."""

    type: Literal["branch"]
    branches: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=MAX_BRANCHES)]
    otherwise: NodeId


class SendNode(Strict):
    """Send one message."""

    type: Literal["send"]
    channel: Literal["email", "sms", "push"]
    template: Key
    next: NodeId


class UpdatePersonNode(Strict):
    """Set fields of the person; `null` removes an attribute."""

    type: Literal["update_person"]
    set: Annotated[dict[str, Annotated[JsonValue, BeforeValidator(_storable)]], Field(min_length=1, max_length=100)]
    next: NodeId


class ExitNode(Strict):
    """Leave the journey."""

    type: Literal["exit"]
    reason: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


Node: TypeAlias = Annotated[
    WaitNode | WaitForEventNode | BranchNode | SendNode | UpdatePersonNode | CommandNode | ExitNode,
    Discriminator("type"),
]
"""One step of a journey."""


class Goal(Strict):
    """What the journey is for: reached, it ends the enrollment at any node."""

    event: EventType
    match: Match
    where: RootCondition | None = None
    within: DurationText | None = None
    """Counts only within this long after the entry."""


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
    def by_api(self) -> Enterable:
        """How often and by which key an enrollment by the API may happen.

        As the `api` entry says; without one, as the first entry with a key of its own says; else once.
        """
        entries = [entry for entry in self.entries if isinstance(entry, Enterable)]
        return next(
            (entry for entry in entries if isinstance(entry, ApiEntry)),
            entries[0] if entries else ApiEntry(api=True, again=self.entries[0].again),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that its author wrote: nothing added, nothing renamed."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def successors(node: Node) -> dict[str, str]:
    """Return where each outcome of a node leads; an exit has none.

    The outcomes: `elapsed` of a wait; `matched` and `timed_out` of a wait for an event; `branch_0` to `branch_N` and
    `otherwise` of a branch; `done` of all that act.
    """
    match node:
        case WaitNode():
            return {"elapsed": node.next}
        case WaitForEventNode():
            return {"matched": node.matched, "timed_out": node.timed_out}
        case BranchNode():
            ways = {f"branch_{index}": branch.next for index, branch in enumerate(node.branches)}
            return {**ways, "otherwise": node.otherwise}
        case ExitNode():
            return {}
        case _:
            return {"done": node.next}


def domain_of(node: Node) -> Literal["marketing", "crm"] | None:
    """Return whose worker does what the node does; None where any that walks the journey can."""
    if isinstance(node, SendNode):
        return "marketing"
    return "crm" if isinstance(node, SALES) else None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a definition, for editors and `/v1/journeys/schema`."""
    return JourneyDefinition.model_json_schema(by_alias=True)
