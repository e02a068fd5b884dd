"""The time a report is about: whole months, or whole days. Both are of UTC."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Self

from core.errors import InvalidError

FIRST: Final = date(1970, 1, 1)
LAST: Final = date(2999, 12, 31)
"""What a report may be about lies between these."""
MAX_MONTHS: Final = 60
DEFAULT_MONTHS: Final = 12
MAX_DAYS: Final = 3_660
DEFAULT_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Months:
    """Months in a row, each known by its first day; there is at least one."""

    starts: tuple[date, ...]

    @classmethod
    def of(cls, first: date | None, last: date | None, *, today: date) -> Self:
        """Return the months from that of `first` to that of `last`.

        Without `first` they begin with today's, or with the last where that lies before; without `last` there are
        twelve.

        Raises:
            InvalidError: naming `from` or `until`.
        """
        _check(first, last)
        begin = _month(first or min(today, last or today))
        end = begin + DEFAULT_MONTHS - 1 if last is None else _month(last)
        if end < begin:
            raise InvalidError.of("until", "must not be before from")
        if end - begin >= MAX_MONTHS:
            raise InvalidError.of("until", f"must be at most {MAX_MONTHS} months from the first one, both included")
        return cls(tuple(_start(month) for month in range(begin, end + 1)))

    @property
    def end(self) -> date:
        """The first day after them."""
        return _start(_month(self.starts[-1]) + 1)


@dataclass(frozen=True, slots=True)
class Days:
    """Days in a row, both ends included."""

    first: date
    last: date

    @classmethod
    def of(cls, first: date | None, last: date | None, *, today: date) -> Self:
        """Return the days from `first` to `last`: until today, and ninety, where that is not said.

        Raises:
            InvalidError: naming `from` or `until`.
        """
        _check(first, last)
        if last is None:
            last = max(today, first or today)
        if first is None:
            first = max(FIRST, last - timedelta(days=DEFAULT_DAYS - 1))
        if last < first:
            raise InvalidError.of("until", "must not be before from")
        if (last - first).days >= MAX_DAYS:
            raise InvalidError.of("until", f"must be at most {MAX_DAYS} days from the first one, both included")
        return cls(first, last)

    @property
    def since(self) -> datetime:
        """The instant they begin."""
        return instant(self.first)

    @property
    def before(self) -> datetime:
        """The instant they are over."""
        return instant(self.last + timedelta(days=1))

    def months(self) -> list[date]:
        """Return the first days of the months they touch."""
        return [_start(month) for month in range(_month(self.first), _month(self.last) + 1)]


def instant(day: date) -> datetime:
    """Return when a UTC day begins."""
    return datetime.combine(day, time(), UTC)


def _check(first: date | None, last: date | None) -> None:
    for name, day in (("from", first), ("until", last)):
        if day is not None and not FIRST <= day <= LAST:
            raise InvalidError.of(name, f"must be between {FIRST} and {LAST}")


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1


def _start(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)
