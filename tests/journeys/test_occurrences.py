"""When a date comes round: days, anniversaries, offsets, and the clocks of zones."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.occurrences import Calendar, DayOffset, days_of_the_year

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)


def due(calendar: Calendar, day: str, until: str, *, zone: str = "UTC", hours: int = 24) -> str | None:
    end = datetime.fromisoformat(until).replace(tzinfo=UTC)
    found = calendar.due(date.fromisoformat(day), ZoneInfo(zone), end - timedelta(hours=hours), end)
    return None if found is None else found.isoformat()


YEARLY = Calendar(yearly=True, offset=0, at=time(9))


@pytest.mark.parametrize(
    ("day", "until", "expected"),
    [
        ("1990-11-27", "2026-11-27T09:00", "2026-11-27"),
        ("1990-11-27", "2026-11-27T08:59", None),
        ("1990-11-27", "2026-11-28T08:59", "2026-11-27"),
        ("1990-11-27", "2026-11-28T09:00", None),
        ("2026-11-27", "2026-11-27T09:00", "2026-11-27"),
        ("2027-11-27", "2026-11-27T09:00", None),  # its first has not come
        ("1992-02-29", "2026-02-28T09:00", "2026-02-28"),
        ("1992-02-29", "2026-03-01T09:00", None),
        ("1992-02-29", "2028-02-28T09:00", None),
        ("1992-02-29", "2028-02-29T09:00", "2028-02-29"),
    ],
)
def test_an_anniversary_is_the_same_day_of_the_year(day: str, until: str, expected: str | None) -> None:
    assert due(YEARLY, day, until) == expected


def test_a_date_without_years_comes_once() -> None:
    once = Calendar(yearly=False, offset=0, at=time(9))
    assert due(once, "2026-11-27", "2026-11-27T10:00") == "2026-11-27"
    assert due(once, "2025-11-27", "2026-11-27T10:00") is None


@pytest.mark.parametrize(
    ("offset", "day", "until", "expected"),
    [
        (-7, "2026-12-04", "2026-11-27T09:00", "2026-12-04"),
        (7, "2026-11-20", "2026-11-27T09:00", "2026-11-20"),
        (-7, "1990-01-03", "2026-12-27T09:00", "2027-01-03"),  # the occurrence is next year's
        (7, "1990-12-28", "2027-01-04T09:00", "2026-12-28"),
        (-366, "1990-01-03", "2026-01-02T09:00", "2027-01-03"),
    ],
)
def test_an_offset_moves_the_moment_and_not_the_occurrence(offset: int, day: str, until: str, expected: str) -> None:
    calendar = Calendar(yearly=day.startswith("1990"), offset=offset, at=time(9))
    assert due(calendar, day, until) == expected


def test_the_hour_is_that_of_the_zone_also_where_clocks_skip_or_repeat_it() -> None:
    assert due(YEARLY, "1990-11-27", "2026-11-27T00:00", zone="Asia/Tokyo", hours=1) == "2026-11-27"
    assert due(YEARLY, "1990-11-27", "2026-11-27T14:00", zone="America/New_York", hours=1) == "2026-11-27"
    early = Calendar(yearly=True, offset=0, at=time(2, 30))
    # 29 March 2026: 02:00 becomes 03:00 in Berlin, at 01:00 UTC
    assert due(early, "1990-03-29", "2026-03-29T01:00", zone="Europe/Berlin", hours=1) == "2026-03-29"
    # 25 October 2026: 02:30 is shown at 00:30 and at 01:30 UTC, and counts once
    assert due(early, "1990-10-25", "2026-10-25T00:30", zone="Europe/Berlin", hours=1) == "2026-10-25"
    assert due(early, "1990-10-25", "2026-10-25T01:30", zone="Europe/Berlin", hours=1) is None


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Niue", "Africa/Cairo"]
)


@given(
    day=st.dates(date(1950, 1, 1), date(2030, 1, 1)),
    offset=st.integers(-366, 366),
    at=st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    zone=zones,
    year=st.integers(2024, 2029),
)
def test_every_occurrence_is_found_by_one_look_of_consecutive_ones_and_is_among_the_days_looked_for(
    day: date, offset: int, at: time, zone: str, year: int
) -> None:
    calendar = Calendar(yearly=True, offset=offset, at=at)
    occurrence = date(year, day.month, min(day.day, 28) if day.month == 2 and year % 4 else day.day)
    if occurrence < day:
        return
    start = datetime.combine(occurrence + timedelta(days=offset), time(12), UTC) - 2 * DAY
    looks = [(start + n * DAY / 4, start + (n + 1) * DAY / 4) for n in range(16)]
    found = [look for look in looks if calendar.due(day, ZoneInfo(zone), *look) == occurrence]
    assert len(found) == 1
    assert occurrence in calendar.days(*found[0])
    assert (day.month, day.day) in days_of_the_year(calendar.days(*found[0]))


@pytest.mark.parametrize(("text", "days"), [("P7D", 7), ("-P7D", -7), ("+P2W", 14), ("P0D", 0), ("-P52W", -364)])
def test_an_offset_is_whole_days(text: str, days: int) -> None:
    assert DayOffset.parse(text).days == days


@pytest.mark.parametrize("text", ["PT1H", "P1M", "P367D", "7", "--P1D", "P53W"])
def test_an_offset_is_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        DayOffset.parse(text)
