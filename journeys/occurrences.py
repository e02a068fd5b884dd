"""When somebody's date comes round for a journey: the day itself or an anniversary, some days before or after it."""

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from datetime import tzinfo as tz
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from journeys.durations import next_time_of_day

MAX_OFFSET: Final = 366
"""Days."""
OFFSET_PATTERN: Final = r"[+-]?P(\d{1,3}D|\d{1,2}W)"
_OFFSET: Final = re.compile(OFFSET_PATTERN)
_LEAP_DAY: Final = (2, 29)
_AROUND: Final = timedelta(days=4)
"""No day that a moment is of, nor one that its date is written with, is further from the moment's day in UTC."""


@dataclass(frozen=True, slots=True)
class DayOffset:
    """Whole days after a date, or before it."""

    text: str
    days: int

    @classmethod
    def parse(cls, text: str) -> "DayOffset":
        """Read `P7D`, `-P7D` or `-P2W`.

        Raises:
            ValueError: it is not that.
        """
        found = _OFFSET.fullmatch(text)
        if found is None:
            raise ValueError("must be whole days or weeks such as -P7D or P2W")
        amount = int(found[1][:-1]) * (7 if text.endswith("W") else 1)
        if amount > MAX_OFFSET:
            raise ValueError(f"must be at most {MAX_OFFSET} days")
        return cls(text, -amount if text.startswith("-") else amount)

    def __str__(self) -> str:
        return self.text


def _to_offset(value: Any) -> DayOffset:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, DayOffset):
        return value
    if not isinstance(value, str):
        raise ValueError("must be whole days or weeks such as -P7D or P2W")  # noqa: TRY004 - only a ValueError is one of validation
    return DayOffset.parse(value)


DayOffsetText = Annotated[
    DayOffset,
    PlainValidator(_to_offset),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{OFFSET_PATTERN}$"}),
]
"""A `DayOffset` that is its own text in JSON."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """How a date becomes moments."""

    yearly: bool
    offset: int
    """Days after the date; negative before it."""
    at: time

    def due(self, day: date, zone: tz, since: datetime, until: datetime) -> date | None:
        """Return the occurrence of a date whose moment is after `since` and not after `until`; the last of several.

        An occurrence is the date itself, and with `yearly` the same day of each later year, where 29 February is the
        28th in years that lack it. Its moment is `at` by the clocks of `zone`, on the day that the offset leads to.
        """
        found = None
        for occurrence, _ in self.moments(day, zone, since, until):
            found = occurrence
        return found

    def moments(self, day: date, zone: tz, since: datetime, until: datetime) -> Iterator[tuple[date, datetime]]:
        """Yield each occurrence of a date, as `due` means it, whose moment is in this time, and the moment."""
        for occurrence in self._near(day, since, until):
            moment = self._moment(occurrence, zone)
            if since < moment <= until:
                yield occurrence, moment

    def _near(self, day: date, since: datetime, until: datetime) -> Iterator[date]:
        if not self.yearly:
            yield day
            return
        first, last = (moment.date() - timedelta(days=self.offset) for moment in (since - _AROUND, until + _AROUND))
        for year in range(max(first.year, day.year), last.year + 1):
            yield _in_year(day, year)

    def _moment(self, occurrence: date, zone: tz) -> datetime:
        midnight = datetime.combine(occurrence + timedelta(days=self.offset), time(), zone)
        return next_time_of_day(midnight, self.at, zone, inclusive=True)

    def days(self, since: datetime, until: datetime) -> frozenset[date]:
        """Return the days on which a date, or an anniversary of it, can have a moment in this time, wherever one is."""
        first, last = (moment.date() - timedelta(days=self.offset) for moment in (since - _AROUND, until + _AROUND))
        return frozenset(first + timedelta(days=ahead) for ahead in range((last - first).days + 1))


def days_of_the_year(days: frozenset[date]) -> frozenset[tuple[int, int]]:
    """Return the months and days whose anniversary falls on one of these days."""
    found = {(day.month, day.day) for day in days}
    if any((day.month, day.day) == (2, 28) and monthrange(day.year, 2)[1] == 28 for day in days):  # noqa: PLR2004 - a date
        found.add(_LEAP_DAY)
    return frozenset(found)


def _in_year(day: date, year: int) -> date:
    return day.replace(year=year, day=min(day.day, monthrange(year, day.month)[1]))
