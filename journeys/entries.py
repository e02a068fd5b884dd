"""The ways into a journey, and how often somebody may take them."""

from datetime import time
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from journeys.conditions import EventType, FieldPath, FieldPathText, Key, RootCondition, Strict
from journeys.durations import DurationText, TimeOfDay
from journeys.matching import event_property
from journeys.occurrences import Calendar, DayOffsetText

MAX_ENTRIES: Final = 20


def _entry_key(path: FieldPath) -> FieldPath:
    return path if path.root == "entry" else event_property(path)


def _person_field(path: FieldPath) -> FieldPath:
    if path.root != "person":
        raise ValueError("must be a field of the person, as in person.attributes.birthday")
    return path


EntryKey = Annotated[FieldPathText, AfterValidator(_entry_key)]
"""What makes two enrollments of one subject distinct: `event.properties.X`, or `entry.X` which is the same."""


class Again(Strict):
    """Whether a subject may enter once more; with a key, the rule holds per key."""

    mode: Literal["never", "when_not_active", "always"] = "never"
    min_gap: DurationText | None = None
    """At least this long after the last entry."""
    overlap: Literal["ignore", "restart", "parallel"] | None = None
    """With `always`, what an entry does while a passage is still open: nothing, end that one, or begin beside it, which
    is what it does unless told."""

    @field_validator("overlap")
    @classmethod
    def _only_where_passages_may_overlap(cls, overlap: str | None, info: ValidationInfo) -> str | None:
        if overlap is not None and info.data.get("mode") != "always":
            raise ValueError("is for mode always: with the others nobody is inside twice")
        return overlap

    @property
    def overlapping(self) -> bool:
        """Whether several passages of one subject, and key, may be open at once."""
        return self.mode == "always" and self.overlap in {None, "parallel"}

    @property
    def restarting(self) -> bool:
        """Whether an entry ends the passage that is open."""
        return self.overlap == "restart"


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
    """Also on each anniversary; of a 29 February that is the 28th in other years."""
    offset: DayOffsetText | None = None
    """Whole days after the date, as `P7D`, or before it, as `-P7D`."""
    at: TimeOfDay = time(9)
    again: Again = Again()
    """Of no consequence: an occurrence lets somebody in once, whatever this says, and the next one again."""

    @property
    def calendar(self) -> Calendar:
        """How the person's date becomes moments."""
        return Calendar(self.yearly, 0 if self.offset is None else self.offset.days, self.at)


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
