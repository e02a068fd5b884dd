"""Nodes that wait: for a time, a date, a window of hours, an event, or until something holds."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from journeys.attributes import DAY_LENGTH
from journeys.command_nodes import NodeId
from journeys.conditions import EventType, FieldPath, FieldPathText, Key, RootCondition, Strict
from journeys.durations import (
    DurationText,
    OffsetText,
    TimeOfDay,
    add,
    instant,
    next_time_of_day,
    zone_named,
)
from journeys.literals import as_date
from journeys.matching import Match

MET: Final = "met_"
"""What the outcomes of a wait until something holds begin with, before the number of the way."""
MAX_WAYS: Final = 20
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_SEARCHED_DAYS: Final = 16
"""A window comes at least once a week, and the clocks may skip it once."""


def _known_zone(zone: str | None) -> str | None:
    if zone not in {None, "person", "tenant"}:
        zone_named(zone or "")
    return zone


def _dated(path: FieldPath) -> FieldPath:
    if path.root not in {"person", "deal", "entry"}:
        raise ValueError("must be a field of the person, the deal or the entry, as in person.attributes.renews_on")
    return path


Zone = Annotated[
    Annotated[str, Field(examples=["person", "tenant", "Europe/Berlin"])] | None, AfterValidator(_known_zone)
]
DateField = Annotated[FieldPathText, AfterValidator(_dated)]


class WaitNode(Strict):
    """Wait for a time, until a time of day, first the one and then until the other, or until a date of the subject."""

    type: Literal["wait"]
    duration: Annotated[DurationText | None, Field(alias="for")] = None
    until: DateField | None = None
    """A date or time of the person, the deal or the entry. A day without a time begins on the clock of `zone`."""
    offset: OffsetText | None = None
    """How long after `until`, or with a minus before it; days move the clock of `zone`."""
    yearly: bool = False
    """The next time that `until` comes round, instead of the date itself; 29 February is the 28th in other years."""
    until_time: TimeOfDay | None = None
    """With `until`, the time of the day that the date and the offset lead to."""
    zone: Zone = None
    """Whose wall clock `until_time`, `until` and the days of `for` mean; `person` where one of the first two is given,
    else UTC."""
    next: NodeId
    past: NodeId | None = None
    """With `until`: where they go on whose moment has passed when they come, or who have no such date."""

    @model_validator(mode="after")
    def _waits(self) -> "WaitNode":
        if self.until is not None:
            if self.duration is not None:
                raise ValueError("`until` and `for` exclude each other; `offset` moves the date")
            if self.past is None:
                raise ValueError(
                    "`until` needs `past`: where they go for whom the moment has passed or there is no date"
                )
            return self
        if self.duration is None and self.until_time is None:
            raise ValueError("a wait needs `for`, `until_time` or both, or `until`")
        if self.zone is not None and self.until_time is None:
            raise ValueError("`zone` needs `until_time` or `until`")
        given = {"offset": self.offset is not None, "yearly": self.yearly, "past": self.past is not None}
        for name, is_given in given.items():
            if is_given:
                raise ValueError(f"`{name}` needs `until`")
        return self

    @property
    def clock_of(self) -> str:
        """Return `person`, `tenant` or the name of the zone whose clock counts."""
        return self.zone or ("person" if self.until_time or self.until else "UTC")

    def due(self, at: datetime, zone: ZoneInfo) -> datetime:
        """Return the UTC instant until which one who arrives at `at` waits, by the clock of `zone`; not for `until`."""
        if self.duration is not None:
            at = add(at, self.duration, zone)
        if self.until_time is not None:
            # Without a duration an arrival on the dot waits a day: a loop over this node must take time.
            at = next_time_of_day(at, self.until_time, zone, inclusive=self.duration is not None)
        return at

    def due_by(self, value: object, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the UTC instant that `until` means, where it holds `value`, to one who arrives at `at`.

        None where the value is no date, or one that no calendar reaches with its offset.
        """
        try:
            moment = _moment(value, zone)
            if moment is None or not self.yearly:
                return None if moment is None else self._moved(moment, zone)
            wall = moment.astimezone(zone).replace(tzinfo=None)
            # The occurrence of last year may still be to come, where the offset is long.
            first = at.astimezone(zone).year - 11
            for year in range(first, first + 24):
                due = self._moved(instant(_in_year(wall, year), zone), zone)
                if due >= at:
                    return due
        except (ValueError, OverflowError):
            return None
        return None

    def _moved(self, moment: datetime, zone: ZoneInfo) -> datetime:
        if self.offset is not None:
            moment = self.offset.after(moment, zone)
        if self.until_time is not None:
            moment = instant(datetime.combine(moment.astimezone(zone).date(), self.until_time), zone)
        return moment


def _moment(value: object, zone: ZoneInfo) -> datetime | None:
    at = as_date(value)
    if at is None or not isinstance(value, str) or len(value) > DAY_LENGTH:
        return at
    return instant(datetime.combine(date.fromisoformat(value), time()), zone)


def _in_year(wall: datetime, year: int) -> datetime:
    try:
        return wall.replace(year=year)
    except ValueError:
        return wall.replace(year=year, day=28)


class TimeWindowNode(Strict):
    """Go on within certain hours of certain days: at once where it is such a time, else when the next begins."""

    type: Literal["time_window"]
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=len(DAYS))] = get_args(Day)
    """The days on which the hours begin."""
    since: Annotated[TimeOfDay | None, Field(alias="from")] = None
    until: Annotated[TimeOfDay | None, Field(alias="to")] = None
    """Not itself within. Earlier than `from`: on the next day. Without both, the whole day."""
    zone: Zone = None
    """Whose clock: `person` unless told."""
    next: NodeId

    @field_validator("days")
    @classmethod
    def _each_once(cls, days: tuple[Day, ...]) -> tuple[Day, ...]:
        if len(set(days)) < len(days):
            raise ValueError("names a day twice")
        return days

    @model_validator(mode="after")
    def _not_empty(self) -> "TimeWindowNode":
        if (self.since is None) != (self.until is None):
            raise ValueError("`from` and `to` need each other")
        if self.since is not None and self.since == self.until:
            raise ValueError("`from` and `to` are the same time; leave both out for the whole day")
        return self

    @property
    def clock_of(self) -> str:
        """Return `person`, `tenant` or the name of the zone whose clock counts."""
        return self.zone or "person"

    def opens(self, at: datetime, zone: ZoneInfo) -> datetime:
        """Return `at` where it is within, else the UTC instant after it at which the window opens next.

        Hours that the clocks skip as a whole do not come that day; of hours that they show twice the first begins it.
        """
        today = at.astimezone(zone).date()
        for ahead in range(-1, _SEARCHED_DAYS):
            day = today + timedelta(days=ahead)
            if DAYS[day.weekday()] in self.days:
                begins, ends = self._hours(day, zone)
                if at < ends and begins < ends:
                    return max(at, begins)
        raise ValueError(f"the window does not open within {_SEARCHED_DAYS} days of {at}")

    def _hours(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        since, until = self.since or time(), self.until or time()
        last = day if since < until else day + timedelta(days=1)
        return instant(datetime.combine(day, since), zone), instant(datetime.combine(last, until), zone)


class WaitForEventNode(Strict):
    """Wait until an event of the subject arrives, or the time is over."""

    type: Literal["wait_for_event"]
    event: EventType
    match: Match
    where: RootCondition | None = None
    timeout: DurationText
    matched: NodeId
    timed_out: NodeId


class EventWay(Strict):
    """An event of the subject that arrives while it waits."""

    event: EventType
    match: Match
    where: RootCondition | None = None
    next: NodeId


class ConditionWay(Strict):
    """A condition that holds, on arrival or at any time after."""

    when: RootCondition
    next: NodeId


class SegmentWay(Strict):
    """Membership of a segment."""

    segment: Key
    next: NodeId


def _way_tag(way: object) -> str | None:
    kinds = {"event": EventWay, "when": ConditionWay, "segment": SegmentWay}
    if isinstance(way, dict):
        return next((f"<{kind}>" for kind in kinds if kind in way), None)
    return next((f"<{kind}>" for kind, model in kinds.items() if isinstance(way, model)), None)


Way = Annotated[
    Annotated[EventWay, Tag("<event>")]
    | Annotated[ConditionWay, Tag("<when>")]
    | Annotated[SegmentWay, Tag("<segment>")],
    Discriminator(
        _way_tag,
        custom_error_type="way_kind",
        custom_error_message="must be a way out: an object with one of event, when, segment",
    ),
]


class WaitUntilNode(Strict):
    """Wait until any of several things is so; the first in the list that is, is the way out."""

    type: Literal["wait_until"]
    ways: Annotated[tuple[Way, ...], Field(alias="any", min_length=1, max_length=MAX_WAYS)]
    timeout: DurationText
    timed_out: NodeId
