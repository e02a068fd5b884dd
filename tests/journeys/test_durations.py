"""Durations keep their text; clocks that change, skip or repeat an hour do not lose anyone."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from journeys.durations import Duration, DurationText, TimeOfDay, add, next_time_of_day, subtract, zone_named

DURATIONS = TypeAdapter(DurationText)
TIMES = TypeAdapter(TimeOfDay)
BERLIN = zone_named("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "months", "days", "elapsed"),
    [
        ("PT1H", 0, 0, timedelta(hours=1)),
        ("P3D", 0, 3, timedelta()),
        ("P1M", 1, 0, timedelta()),
        ("PT1M", 0, 0, timedelta(minutes=1)),
        ("P1Y2M3W4DT5H6M7.000008S", 14, 25, timedelta(hours=5, minutes=6, seconds=7, microseconds=8)),
        ("PT0.5S", 0, 0, timedelta(milliseconds=500)),
        ("P10Y", 120, 0, timedelta()),
        ("P3653D", 0, 3653, timedelta()),
    ],
)
def test_a_duration_is_read_and_written_as_it_was(text: str, months: int, days: int, elapsed: timedelta) -> None:
    duration = DURATIONS.validate_python(text)
    assert (duration.months, duration.days, duration.elapsed) == (months, days, elapsed)
    assert DURATIONS.dump_python(duration, mode="json") == text
    assert DURATIONS.validate_json(f'"{text}"') == duration


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "P",
            "PT",
            "P1DT",
            "1H",
            "PT1",
            "P1H",
            "p1d",
            " P1D",
            "P1D\n",
            "P\u0661D",
            "P0003-06-04T12:30:05",
            "PT1,5S",
        ),
        *("P-1D", "-P1D", "+P1D", "P0D", "PT0S", "P1.5D", "P0.5Y"),
        *("P11Y", "P9999Y", "P3654D", "P10YT1S", "PT99999999M"),
        *(None, 3600, 1.5, ["P1D"]),
    ],
)
def test_what_is_no_positive_duration_of_ten_years_at_most_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        DURATIONS.validate_python(text)


@pytest.mark.parametrize(
    ("at", "duration", "expected"),
    [
        ("2026-03-28T08:00", "P1D", "2026-03-29T07:00"),  # The same wall clock across spring forward.
        ("2026-03-28T08:00", "PT24H", "2026-03-29T08:00"),
        ("2026-10-24T07:00", "P1D", "2026-10-25T08:00"),  # And across fall back.
        ("2026-03-28T01:30", "P1D", "2026-03-29T01:00"),  # 02:30 is skipped: the first instant after.
        ("2026-10-24T00:30", "P1D", "2026-10-25T00:30"),  # 02:30 comes twice: the first.
        ("2026-01-31T12:00", "P1M", "2026-02-28T12:00"),
        ("2028-01-31T12:00", "P1M", "2028-02-29T12:00"),
        ("2028-02-29T12:00", "P1Y", "2029-02-28T12:00"),
        ("2026-11-30T12:00", "P3M", "2027-02-28T12:00"),
        ("2026-03-28T08:00", "P1DT2H", "2026-03-29T09:00"),
    ],
)
def test_days_move_the_wall_clock_and_hours_elapse(at: str, duration: str, expected: str) -> None:
    assert add(utc(at), Duration.parse(duration), BERLIN) == utc(expected)


@pytest.mark.parametrize(
    ("at", "duration", "expected"),
    [
        ("2026-03-15T12:00", "P30D", "2026-02-13T12:00"),
        ("2026-03-31T12:00", "P1M", "2026-02-28T12:00"),
        ("2026-01-15T00:30", "P2MT1H", "2025-11-14T23:30"),
    ],
)
def test_subtraction_takes_months_then_days_then_hours(at: str, duration: str, expected: str) -> None:
    assert subtract(utc(at), Duration.parse(duration)) == utc(expected)


@pytest.mark.parametrize(
    ("at", "clock", "expected"),
    [
        ("2026-01-10T07:59", "09:00", "2026-01-10T08:00"),
        ("2026-01-10T08:00", "09:00", "2026-01-11T08:00"),  # On the dot: tomorrow.
        ("2026-01-10T23:30", "00:15", "2026-01-11T23:15"),  # 00:30 there already.
        ("2026-03-28T12:00", "02:30", "2026-03-29T01:00"),  # The gap from 02:00 to 03:00: its end.
        ("2026-03-29T01:00", "02:30", "2026-03-30T00:30"),
        ("2026-10-24T12:00", "02:30", "2026-10-25T00:30"),  # The fold: the first of the two.
        ("2026-10-25T00:30", "02:30", "2026-10-26T01:30"),
        ("2026-10-25T00:45", "02:30", "2026-10-26T01:30"),  # Between the two: not the second.
        ("2026-03-28T12:00", "09:00", "2026-03-29T07:00"),
        ("2026-10-24T12:00", "09:00", "2026-10-25T08:00"),
    ],
)
def test_the_next_time_of_day_in_berlin(at: str, clock: str, expected: str) -> None:
    assert next_time_of_day(utc(at), time.fromisoformat(clock), BERLIN) == utc(expected)


@pytest.mark.parametrize(
    ("zone", "at", "clock", "expected"),
    [
        ("America/Santiago", "2026-09-05T12:00", "00:00", "2026-09-06T04:00"),  # Its gap is at midnight.
        ("Australia/Lord_Howe", "2026-10-03T10:00", "02:15", "2026-10-03T15:30"),  # Half an hour is skipped.
        ("Pacific/Apia", "2011-12-30T09:59", "09:00", "2011-12-30T10:00"),  # A whole day is skipped.
        ("Asia/Kathmandu", "2026-01-01T00:00", "09:00", "2026-01-01T03:15"),
    ],
)
def test_the_next_time_of_day_where_clocks_are_odd(zone: str, at: str, clock: str, expected: str) -> None:
    assert next_time_of_day(utc(at), time.fromisoformat(clock), zone_named(zone)) == utc(expected)


def test_an_inclusive_search_takes_the_instant_itself() -> None:
    at = utc("2026-01-10T08:00")
    assert next_time_of_day(at, time(9), BERLIN, inclusive=True) == at


@given(
    at=st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - Hypothesis adds the zone
    clock=st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    zone=st.sampled_from(["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Asia/Gaza", "UTC"]).map(
        zone_named
    ),
)
def test_the_next_time_of_day_is_later_soon_and_on_the_clock(at: datetime, clock: time, zone: ZoneInfo) -> None:
    due = next_time_of_day(at, clock, zone)
    assert at < due <= at + timedelta(hours=50)
    shown = due.astimezone(zone).replace(tzinfo=None)
    before = (due - timedelta(microseconds=1)).astimezone(zone).replace(tzinfo=None)
    skipped = any(before < datetime.combine(day, clock) < shown for day in (before.date(), shown.date()))
    assert shown.time() == clock or skipped


@pytest.mark.parametrize("text", ["24:00", "9:00", "09:60", "0900", "09:00:00", "", None, 9, "09:00\n"])
def test_what_is_no_time_of_day_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        TIMES.validate_python(text)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", "europe/berlin\x00", "+01:00"]
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone"):
        zone_named(name)
