"""Cron expressions that will do, and when they come next; tests/relay/test_schedules_cron.py asks Temporal too."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.shared.cron import next_time, problem_with_cron


@pytest.mark.parametrize(
    "cron",
    [
        "* * * * *",
        "*/5 * * * *",
        "0 9 * * 1",
        "0 9 * * MON-FRI",
        "0 9 * * mon,Thu",
        "0 0 1 jan,JUL *",
        "5,35 8-18/2 * * 7",
        "0 0 29 2 *",
        "10/20 * * * *",
        "  0   0 * * *  ",
    ],
)
def test_an_expression_of_five_fields_will_do(cron: str) -> None:
    assert problem_with_cron(cron) is None


@pytest.mark.parametrize(
    ("cron", "reason"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("@every 5m", "five fields"),
        ("CRON_TZ=UTC 0 0 * * *", "five fields"),
        ("0 0 * * * # nightly", "five fields"),
        ("0\t0 * * *", "five fields"),
        ("0\x1f0 * * *", "five fields"),
        ("٣ 0 * * *", "five fields"),
        ("60 * * * *", "minute that is out of range"),
        ("* 24 * * *", "hour that is out of range"),
        ("* * 0 * *", "day of month that is out of range"),
        ("* * 32 * *", "day of month that is out of range"),
        ("* * * 13 *", "month that is out of range"),
        ("* * * * 8", "day of week that is out of range"),
        ("* * * * SAT-SUN", "day of week that is out of range, runs backwards"),
        ("50-10 * * * *", "minute that is out of range, runs backwards"),
        ("*/0 * * * *", "minute that is out of range, runs backwards or has a step of 0"),
        ("5-5/2 * * * *", "minute that is not made of"),
        ("*/100 * * * *", "minute that is not made of"),
        ("1/2/3 * * * *", "minute that is not made of"),
        ("1, * * * *", "minute that is not made of"),
        ("-5 * * * *", "minute that is not made of"),
        ("? * * * *", "minute that is not made of"),
        ("MON * * * *", "minute that is out of range"),
        ("0 0 L * *", "day of month that is not made of"),
        ("0 0 LW * *", "day of month that is not made of"),
        ("0 0 * * 5L", "day of week that is not made of"),
        ("0 0 * * 1#2", "day of week that is not made of"),
        ("0 0 * * MONDAY", "day of week that is not made of"),
        ("0 0 * * XYZ", "day of week that is out of range"),
        ("0 0 13 * FRI", "both"),
        ("0 0 */2 * MON", "both"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,JUN *", "never comes"),
        ("0" * 300 + " * * * *", "at most 256"),
    ],
)
def test_what_would_be_read_otherwise_is_refused_with_its_reason(cron: str, reason: str) -> None:
    assert reason in (problem_with_cron(cron) or "")


@given(st.text(max_size=40) | st.text("0123456789*/-,LW#@ MONJAN", max_size=40))
@example("0 0 29 2 *")
def test_any_text_is_refused_or_comes(text: str) -> None:
    if problem_with_cron(text) is None:
        assert next_time(text, "Europe/Berlin", datetime(2026, 1, 1, tzinfo=UTC)) is not None


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 9 * * *", "Europe/Berlin", "2026-07-01T06:59:59", "2026-07-01T07:00:00"),
        ("0 9 * * *", "Europe/Berlin", "2026-07-01T07:00:00", "2026-07-02T07:00:00"),
        ("0 9 * * *", "Asia/Kolkata", "2026-07-01T07:00:00", "2026-07-02T03:30:00"),
        # left out on the night that has no half past two
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T01:30:00", "2026-03-30T00:30:00"),
        # at the second of the night that has two
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T01:30:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00", "2026-10-26T01:30:00"),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00", "2026-11-01T05:30:00"),
        ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00", "2026-11-01T06:30:00"),
        ("0,30 1 * * *", "America/New_York", "2026-11-01T05:00:00", "2026-11-01T05:30:00"),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_the_next_time_follows_the_clocks_of_the_zone(cron: str, zone: str, after: str, expected: str) -> None:
    found = next_time(cron, zone, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_times_follow_one_another_through_both_changes_of_the_clock() -> None:
    for zone in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Kathmandu"):
        for start in (
            datetime(2026, 3, 28, tzinfo=UTC),
            datetime(2026, 10, 3, tzinfo=UTC),
            datetime(2026, 10, 24, tzinfo=UTC),
        ):
            times = [start]
            for _ in range(200):
                found = next_time("*/20 * * * *", zone, times[-1])
                assert found is not None
                times.append(found)
            assert all(one < other for one, other in pairwise(times))
