"""Waits for a date, a window of hours and until something is so: their form, and the moments they mean."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from journeys.attributes import Defined
from journeys.checking import Vocabulary
from journeys.validation import InvalidDefinition, parse, validate
from journeys.waits import TimeWindowNode, WaitNode

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def until(**given: Any) -> WaitNode:  # noqa: ANN401 - JSON
    node = {"type": "wait", "until": "person.attributes.renews_on", "next": "end", "past": "end", **given}
    return WaitNode.model_validate(node)


def window(*hours: str, days: list[str] | None = None) -> TimeWindowNode:
    given: dict[str, Any] = {"type": "time_window", "next": "end"}
    if hours:
        given |= {"from": hours[0], "to": hours[1]}
    return TimeWindowNode.model_validate(given if days is None else {**given, "days": days})


@pytest.mark.parametrize(
    ("given", "value", "zone", "due"),
    [
        ({}, "2026-05-01", BERLIN, "2026-04-30T22:00Z"),
        ({}, "2026-05-01", NEW_YORK, "2026-05-01T04:00Z"),
        ({}, "2026-05-01T15:00:00+02:00", NEW_YORK, "2026-05-01T13:00Z"),
        ({"offset": "-P1D", "until_time": "09:00"}, "2026-05-01", BERLIN, "2026-04-30T07:00Z"),
        ({"offset": "-P1D"}, "2026-03-30", BERLIN, "2026-03-28T23:00Z"),  # the 29th has 23 hours
        ({"offset": "-PT24H"}, "2026-03-30", BERLIN, "2026-03-28T22:00Z"),
        ({"until_time": "02:30"}, "2026-03-29", BERLIN, "2026-03-29T01:00Z"),  # skipped: the end of the gap
        ({"until_time": "02:30"}, "2026-10-25", BERLIN, "2026-10-25T00:30Z"),  # shown twice: the first
        ({"offset": "P1Y"}, "2024-02-29", UTC, "2025-02-28T00:00Z"),
        ({"offset": "-P2M"}, "2026-04-30", UTC, "2026-02-28T00:00Z"),
        ({"until_time": "09:00"}, "2026-05-01T23:00:00Z", BERLIN, "2026-05-02T07:00Z"),  # on that day there
        ({"yearly": True}, "1990-07-01", UTC, "2026-07-01T00:00Z"),
        ({"yearly": True}, "1990-03-01", UTC, "2027-03-01T00:00Z"),
        ({"yearly": True}, "1992-02-29", UTC, "2027-02-28T00:00Z"),
        ({"yearly": True, "offset": "-P1M"}, "1990-04-15", UTC, "2026-03-15T00:00Z"),
        ({"yearly": True, "offset": "-P1M"}, "1990-04-01", UTC, "2027-03-01T00:00Z"),
    ],
)
def test_a_date_means_a_moment_on_a_clock(given: dict[str, Any], value: str, zone: Any, due: str) -> None:  # noqa: ANN401 - a tzinfo
    assert until(**given).due_by(value, NOON, zone) == datetime.fromisoformat(due)


@pytest.mark.parametrize("value", [None, "soon", "2026-02-30", "", 20260501, "9999-12-31"])
def test_what_is_no_date_or_beyond_the_calendar_means_none(value: object) -> None:
    assert until(offset="P2D").due_by(value, NOON, BERLIN) is None


@pytest.mark.parametrize(
    ("node", "at", "opens"),
    [
        (window("09:00", "17:00"), "2026-03-02T12:00Z", None),
        (window("09:00", "17:00"), "2026-03-02T16:00Z", "2026-03-03T08:00Z"),  # 17:00 is not within
        (window("09:00", "17:00"), "2026-03-02T07:59Z", "2026-03-02T08:00Z"),
        (window("22:00", "06:00"), "2026-03-02T03:00Z", None),
        (window("22:00", "06:00"), "2026-03-02T05:00Z", "2026-03-02T21:00Z"),
        (window("22:00", "06:00", days=["sun"]), "2026-03-02T04:00Z", None),  # Sunday night
        (window("22:00", "06:00", days=["mon"]), "2026-03-02T04:00Z", "2026-03-02T21:00Z"),
        (window(days=["sat", "sun"]), "2026-03-02T12:00Z", "2026-03-06T23:00Z"),
        (window("02:10", "02:50"), "2026-03-28T12:00Z", "2026-03-30T00:10Z"),  # skipped on the 29th
        (window("02:30", "04:00"), "2026-03-28T12:00Z", "2026-03-29T01:00Z"),
        (window("02:10", "02:50"), "2026-10-25T01:20Z", "2026-10-26T01:10Z"),  # the second 02:20 is not within
        (window("02:10", "02:50", days=["sun"]), "2026-03-28T12:00Z", "2026-04-05T00:10Z"),
    ],
)
def test_a_window_opens_at_its_hours(node: TimeWindowNode, at: str, opens: str | None) -> None:
    moment = datetime.fromisoformat(at)
    assert node.opens(moment, BERLIN) == (moment if opens is None else datetime.fromisoformat(opens))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({"type": "wait", "until": "person.attributes.x", "next": "end"}, "`until` needs `past`"),
        ({"type": "wait", "until": "person.attributes.x", "for": "P1D", "next": "end", "past": "end"}, "exclude"),
        ({"type": "wait", "for": "P1D", "next": "end", "past": "end"}, "`past` needs `until`"),
        ({"type": "wait", "for": "P1D", "offset": "P1D", "next": "end"}, "`offset` needs `until`"),
        ({"type": "wait", "for": "P1D", "yearly": True, "next": "end"}, "`yearly` needs `until`"),
        ({"type": "wait", "until": "order.placed_at", "next": "end", "past": "end"}, "must be a field of the person"),
        ({"type": "wait", "until": "entry.x", "offset": "1 day", "next": "end", "past": "end"}, "ISO 8601"),
        ({"type": "time_window", "from": "09:00", "next": "end"}, "need each other"),
        ({"type": "time_window", "from": "09:00", "to": "09:00", "next": "end"}, "the same time"),
        ({"type": "time_window", "days": ["mon", "mon"], "next": "end"}, "a day twice"),
        ({"type": "time_window", "days": [], "next": "end"}, "at least 1"),
        ({"type": "time_window", "zone": "Mars/Base", "next": "end"}, "IANA"),
        ({"type": "wait_until", "any": [], "timeout": "P1D", "timed_out": "end"}, "at least 1"),
        (
            {"type": "wait_until", "any": [{"next": "end"}], "timeout": "P1D", "timed_out": "end"},
            "event, when, segment",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(node: dict[str, Any], reason: str) -> None:
    nodes = {"a": node, "end": {"type": "exit", "reason": "end"}}
    with pytest.raises(InvalidDefinition) as refused:
        parse({"entry": {"api": True}, "start": "a", "nodes": nodes})
    assert any(reason in problem.reason and problem.node == "a" for problem in refused.value.problems), refused.value


def test_waits_are_held_to_what_the_tenant_has() -> None:
    condition = {"field": "person.nothing", "op": "exists"}
    ways = [
        {"segment": "vip", "next": "b"},
        {"when": condition, "next": "b"},
        {"event": "e", "where": condition, "next": "x"},
    ]
    nodes = {
        "a": {"type": "wait_until", "any": ways, "timeout": "P1D", "timed_out": "b"},
        "b": {"type": "wait", "until": "person.attributes.flag", "next": "end", "past": "y"},
        "end": {"type": "exit", "reason": "end"},
    }
    definition = parse({"entry": {"api": True}, "start": "a", "nodes": nodes})
    words = Vocabulary(
        person_fields=frozenset({"email"}),
        segments=frozenset(),
        typed={"person.attributes.flag": Defined("boolean")},
    )
    assert {(problem.path, problem.reason) for problem in validate(definition, words, templates={})} == {
        ("nodes.a.any.0.segment", "there is no segment vip"),
        ("nodes.a.any.1.when.field", "there is no field person.nothing"),
        ("nodes.a.any.2.where.field", "there is no field person.nothing"),
        ("nodes.a.any.2.next", "there is no node x"),
        ("nodes.b.until", "holds boolean, no date"),
        ("nodes.b.past", "there is no node y"),
    }


def test_what_may_take_no_time_does_not_break_a_loop() -> None:
    nodes = {
        "a": {"type": "time_window", "next": "b"},
        "b": {"type": "wait", "until": "entry.on", "next": "a", "past": "end"},
        "end": {"type": "exit", "reason": "end"},
    }
    definition = parse({"entry": {"api": True}, "start": "a", "nodes": nodes})
    words = Vocabulary(person_fields=frozenset(), segments=frozenset())
    [problem] = validate(definition, words, templates={})
    assert problem.reason == "the loop a -> b -> a has no wait in it"


def test_a_wait_says_again_what_its_author_wrote() -> None:
    given = {"type": "wait", "until": "entry.on", "offset": "-P1DT2H", "next": "end", "past": "end"}
    assert WaitNode.model_validate(given).model_dump(mode="json", by_alias=True, exclude_unset=True) == given
    with pytest.raises(ValidationError):
        WaitNode.model_validate({**given, "offset": "--P1D"})
