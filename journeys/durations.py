"""Durations, times of day and time zones of the journey language.

A duration keeps the text its author wrote (ISO 8601, `PT1H`, `P3D`, `P1M`). Its date part (years, months, weeks, days)
is calendar time: it moves the wall clock of a zone, so `P1D` from 09:00 is 09:00 the next day, also when the clocks
change. Its time part is elapsed time: `PT24H` is always 24 hours. Where no zone is given, UTC is meant and both are the
same. A month that is too short gives its last day, as PostgreSQL's intervals do: 31 January plus `P1M` is 28 or 29
February.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from datetime import tzinfo as tz
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

DURATION_PATTERN: Final = (
    r"P(?=.)(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})W)?(?:([0-9]{1,5})D)?"
    r"(?:T(?=.)(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)S)?)?"
)
"""What a duration looks like, without anchors: whole years to minutes, seconds with up to six decimals."""

TIME_OF_DAY_PATTERN: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
MAX_MONTHS: Final = 120
"""Ten years: what a journey may wait at most."""
MAX_ELAPSED: Final = timedelta(days=3653)

_DURATION = re.compile(DURATION_PATTERN)
_TIME_OF_DAY = re.compile(TIME_OF_DAY_PATTERN)
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")


@dataclass(frozen=True, slots=True)
class Duration:
    """A positive length of time of at most ten years; see the module for calendar and elapsed parts."""

    text: str
    """As its author wrote it."""
    months: int
    """Years and months, in months."""
    days: int
    """Weeks and days, in calendar days."""
    elapsed: timedelta
    """Hours, minutes and seconds."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Read an ISO 8601 duration; `ValueError` says what is wrong with it."""
        parts = _DURATION.fullmatch(text)
        if not parts:
            raise ValueError(f"{text[:40]!r} is not an ISO 8601 duration such as PT1H, P3D or P1M")
        years, months, weeks, days, hours, minutes = (int(part or 0) for part in parts.groups()[:6])
        # Decimal: 0.1 seconds are exactly 100,000 microseconds.
        microseconds = int(Decimal(parts[7] or 0) * 1_000_000)
        elapsed = timedelta(hours=hours, minutes=minutes, microseconds=microseconds)
        months, days = months + 12 * years, days + 7 * weeks
        if not (months or days or elapsed):
            raise ValueError("a duration must be longer than zero")
        # A month is at most 31 days, so the sum bounds the whole however the parts are mixed.
        if timedelta(days=days) + elapsed + months * MAX_ELAPSED / MAX_MONTHS > MAX_ELAPSED:
            raise ValueError("a duration must be at most ten years")
        return cls(text, months, days, elapsed)

    @property
    def whole_days(self) -> bool:
        """Whether it has a date part only."""
        return not self.elapsed

    def __str__(self) -> str:
        return self.text


def add(at: datetime, duration: Duration, zone: tz = UTC) -> datetime:
    """Return the UTC instant `duration` after `at` (aware); its date part moves the wall clock of `zone`.

    Where the moved clock shows a time that is skipped, the end of the gap is meant; of a time shown twice, the first.
    """
    return _shift(at, duration, zone, 1)


def subtract(at: datetime, duration: Duration, zone: tz = UTC) -> datetime:
    """Return the UTC instant `duration` before `at` (aware), its parts taken away in the order `add` adds them."""
    return _shift(at, duration, zone, -1)


@dataclass(frozen=True, slots=True)
class Offset:
    """A duration after a moment, or before it."""

    duration: Duration
    before: bool

    @classmethod
    def parse(cls, text: str) -> "Offset":
        """Read an ISO 8601 duration, with a minus where it is before; `ValueError` says what is wrong with it."""
        return cls(Duration.parse(text.removeprefix("-")), text.startswith("-"))

    def after(self, at: datetime, zone: tz = UTC) -> datetime:
        """Return the UTC instant that is so long after `at`, or before it."""
        return (subtract if self.before else add)(at, self.duration, zone)

    def __str__(self) -> str:
        return f"-{self.duration}" if self.before else str(self.duration)


def next_time_of_day(at: datetime, clock: time, zone: tz, *, inclusive: bool = False) -> datetime:
    """Return the first UTC instant after `at` at which the wall clock of `zone` shows `clock`.

    With `inclusive`, `at` itself counts. A time that the clocks skip that day becomes the first instant after the gap;
    of a time that they show twice only the first counts.
    """
    day = at.astimezone(zone).date()
    for offset in range(4):
        due = instant(datetime.combine(day + timedelta(days=offset), clock), zone)
        if due > at or (inclusive and due == at):
            return due
    raise ValueError(f"no {clock:%H:%M} within three days of {at}")


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """Return the IANA zone `name`; `ValueError` when there is none."""
    try:
        if _ZONE_NAME.fullmatch(name):
            return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        pass  # Told below, in one sentence for all the ways a lookup can fail.
    raise ValueError(f"{name[:64]!r} is not an IANA time zone such as Europe/Berlin or UTC")


def zone_or_utc(name: str) -> ZoneInfo:
    """Return the zone, or UTC where this machine does not know the name, as conditions have it."""
    try:
        return zone_named(name)
    except ValueError:
        return zone_named("UTC")


def parse_time_of_day(text: str) -> time:
    """Read `HH:MM`, 00:00 to 23:59; `ValueError` when it is not that."""
    if not _TIME_OF_DAY.fullmatch(text):
        raise ValueError(f"{text[:20]!r} is not a time of day such as 09:00")
    return time(int(text[:2]), int(text[3:]))


def _shift(at: datetime, duration: Duration, zone: tz, sign: int) -> datetime:
    if duration.months or duration.days:
        wall = at.astimezone(zone).replace(tzinfo=None, fold=0)
        moved = _add_months(wall, sign * duration.months) + timedelta(days=sign * duration.days)
        at = instant(moved, zone)
    return at.astimezone(UTC) + sign * duration.elapsed


def _add_months(wall: datetime, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    return wall.replace(year=year, month=month + 1, day=min(wall.day, monthrange(year, month + 1)[1]))


def instant(wall: datetime, zone: tz) -> datetime:
    """Return the first UTC instant at which `zone` shows `wall` (naive), or the end of the gap that skips it."""
    later = wall.replace(tzinfo=zone).astimezone(UTC)
    if later.astimezone(zone).replace(tzinfo=None) == wall:
        return later
    earlier = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    before, low, high = earlier.astimezone(zone).utcoffset(), 0, int((later - earlier).total_seconds())
    # The offset changes somewhere in (earlier, later]; zones change at whole seconds.
    start = earlier.replace(microsecond=0)
    while high - low > 1:
        middle = (low + high) // 2
        same = (start + timedelta(seconds=middle)).astimezone(zone).utcoffset() == before
        low, high = (middle, high) if same else (low, middle)
    return start + timedelta(seconds=high)


def _to_duration(value: Any) -> Duration:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, Duration):
        return value
    return Duration.parse(_text(value, "an ISO 8601 duration such as PT1H"))


def _to_offset(value: Any) -> Offset:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, Offset):
        return value
    return Offset.parse(_text(value, "an ISO 8601 duration such as P1D, or -P1D for before"))


def _to_time(value: Any) -> time:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, time):
        return value
    return parse_time_of_day(_text(value, "a time of day such as 09:00"))


def _text(value: object, wanted: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be {wanted}, as a string")  # noqa: TRY004 - only a ValueError becomes a validation error
    return value


DurationText = Annotated[
    Duration,
    PlainValidator(_to_duration),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration", "pattern": f"^{DURATION_PATTERN}$"}),
]
"""A `Duration` that is its own text in JSON."""

OffsetText = Annotated[
    Offset,
    PlainValidator(_to_offset),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^-?{DURATION_PATTERN}$", "examples": ["P1D", "-PT2H"]}),
]
"""An `Offset` that is its own text in JSON."""

TimeOfDay = Annotated[
    time,
    PlainValidator(_to_time),
    PlainSerializer(lambda clock: f"{clock:%H:%M}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{TIME_OF_DAY_PATTERN}$"}),
]
"""A wall clock time to the minute, `HH:MM` in JSON."""
