"""Cron expressions, limited to what Temporal and we understand alike, and when they come next."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_TEXT: Final = 256
_FIELDS: Final = ("minute", "hour", "day of month", "month", "day of week")
_VALUE: Final = r"(?:\d{1,2}|[A-Z]{3})"
_ITEM: Final = re.compile(rf"(?:\*|({_VALUE})(?:-({_VALUE}))?)(/\d{{1,2}})?")
_CHANGE: Final = timedelta(hours=3)
"""No clock moves further than this at once."""
_ANY_TIME: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - cronsim walks the clock on the wall, which has no zone


def problem_with_cron(text: str) -> str | None:
    """Return what is wrong with a cron expression, to stand behind the field's name; None when it will do.

    Five fields of numbers, `*`, ranges, lists and steps; months and days of the week also by their three letters,
    Sunday as 0 or 7. Refused is what others read otherwise or not at all: seconds and years, `@daily`, `L`, `#`, ranges
    that wrap, and a day of the month together with a day of the week, which Temporal takes as both and cron as either.
    """
    if len(text) > MAX_TEXT:
        return f"must have at most {MAX_TEXT} characters"
    fields = text.upper().split()
    if len(fields) != len(_FIELDS) or not (text.isascii() and text.isprintable()):
        return "must be five fields with spaces between: minute, hour, day of month, month, day of week"
    for at, field in enumerate(fields):
        problem = _problem_with_field(at, field)
        if problem is not None:
            return f"has a {_FIELDS[at]} {problem}"
    if fields[2] != "*" and fields[4] != "*":
        return "must not name both a day of month and a day of week: leave one of them *"
    return None if _comes(fields) else "never comes: none of its months has such a day"


def _problem_with_field(at: int, field: str) -> str | None:
    if not all(_is_item(item) for item in field.split(",")):
        return "that is not made of numbers, * and names, ranges as 1-5, lists as 1,3 and steps as */2"
    alone = ["*"] * len(_FIELDS)
    alone[at] = field
    return None if _comes(alone) else "that is out of range, runs backwards or has a step of 0"


def _is_item(text: str) -> bool:
    match = _ITEM.fullmatch(text)
    # `5-5/2` is only the 5th to one, and every second from the 5th on to the other
    return match is not None and not (match[2] is not None and match[3] is not None and match[1] == match[2])


def _comes(fields: list[str]) -> bool:
    try:
        return next(CronSim(" ".join(fields), _ANY_TIME), None) is not None
    except CronSimError:
        return False


def next_time(cron: str, zone: str, after: datetime) -> datetime | None:
    """Return when a valid expression next comes after a moment, in UTC, by the clocks of an IANA zone.

    As Temporal does, a time that a clock skips in spring is left out. A time that it repeats in autumn comes twice west
    of Greenwich and at the second elsewhere. In that night Temporal may do what is due in the hour before once more an
    hour later, which is not shown here; nor are its choices for expressions of several times an hour, and for clocks
    that move by half an hour.
    """
    clock = ZoneInfo(zone)
    wall = after.astimezone(clock).replace(tzinfo=None, fold=0)
    if _changes_near(after, clock):
        wall -= _CHANGE
    found: datetime | None = None
    for local in CronSim(cron, wall):
        # where clocks go back, a later time on the wall may come before an earlier one's second
        if found is not None and not (
            _changes_near(found, clock) and local <= found.astimezone(clock).replace(tzinfo=None) + _CHANGE
        ):
            break
        for moment in _moments(local, clock):
            if moment > after and (found is None or moment < found):
                found = moment
    return found


def _changes_near(moment: datetime, clock: ZoneInfo) -> bool:
    return (moment - _CHANGE).astimezone(clock).utcoffset() != (moment + _CHANGE).astimezone(clock).utcoffset()


def _moments(local: datetime, clock: ZoneInfo) -> Iterator[datetime]:
    """Yield when a clock on the wall shows this and Temporal acts on it."""
    first, second = (local.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        yield first
    elif first < second:  # shown twice; the other way round it is never shown
        if second.astimezone(clock).utcoffset() < timedelta(0):  # pyright: ignore[reportOptionalOperand]  # it is aware
            yield first
        yield second
