"""Conditions and waits in plain words."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from journeys import captions
from journeys.conditions import Condition
from journeys.nodes import Node
from journeys.waits import TimeWindowNode, WaitNode, WaitUntilNode
from journeys.wording import MAX_SEEN, condition_words, seen_by_key, wait_words

_CONDITION = TypeAdapter[Condition](Condition)
_NODE = TypeAdapter[Node](Node)
PLAN = {"field": "person.attributes.plan", "op": "in", "value": ["pro", "team"]}
THREE = {"event": "order.placed", "count": {"op": ">=", "value": 3}, "within": "P7D"}
PLAN_WORDS = 'person.attributes.plan is one of "pro", "team"'
THREE_WORDS = "order.placed happened at least 3 times within P7D"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (PLAN, PLAN_WORDS),
        ({"field": "person.email", "op": "missing"}, "person.email is missing"),
        ({"field": "entry.total", "op": ">", "value": 20}, "entry.total is above 20"),
        (
            {"field": "person.created_at", "op": "older_than", "value": "P30D"},
            "person.created_at is longer ago than P30D",
        ),
        (THREE, THREE_WORDS),
        (
            {"related": "deal", "where": {"field": "deal.status", "op": "=", "value": "open"}},
            'there is a related deal for which deal.status is "open"',
        ),
        (
            {"all": [{"not": {"in_segment": "loyal"}}, {"any": [PLAN, THREE]}]},
            f"not (the person is in the segment loyal) and ({PLAN_WORDS} or {THREE_WORDS})",
        ),
    ],
)
def test_a_condition_reads_as_a_clause(condition: dict[str, Any], words: str) -> None:
    assert condition_words(_CONDITION.validate_python(condition)) == words


def test_what_was_seen_stands_behind_what_was_asked() -> None:
    condition = _CONDITION.validate_python({"all": [PLAN, THREE, {"in_segment": "loyal"}]})
    plan, three, loyal = seen_by_key([condition])
    assert condition_words(condition, {plan: None, three: 2, loyal: False}) == (
        'person.attributes.plan is one of "pro", "team" (it was missing)'
        " and order.placed happened at least 3 times within P7D (it was 2)"
        " and the person is in the segment loyal (it was not so)"
    )


def test_values_are_kept_of_what_has_one_and_of_not_too_many() -> None:
    many = {"any": [{"field": f"entry.n{number}", "op": "exists"} for number in range(2 * MAX_SEEN)]}
    assert len(seen_by_key([_CONDITION.validate_python(many)])) == MAX_SEEN
    inside = {"event": "order.placed", "where": {"field": "event.properties.total", "op": ">", "value": 1}}
    assert list(seen_by_key([_CONDITION.validate_python(inside)] * 2)) == [
        "order.placed happened at least 1 times where event.properties.total is above 1"
    ]


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        ({"for": "P1D", "until_time": "09:00"}, "for P1D, then until 09:00 by the person's clock"),
        ({"until_time": "09:00", "zone": "Asia/Tokyo"}, "until 09:00 by the clock of Asia/Tokyo"),
        (
            {"until": "person.attributes.renews_on", "offset": "-P3D", "until_time": "09:00", "past": "y"},
            "until 09:00 of the day P3D before person.attributes.renews_on, by the person's clock",
        ),
        (
            {"until": "deal.close_date", "yearly": True, "zone": "tenant", "past": "y"},
            "until deal.close_date, each year, by the tenant's clock",
        ),
        (
            {"type": "time_window", "days": ["mon", "fri"], "from": "09:00", "to": "17:00"},
            "for mon, fri from 09:00 to 17:00 by the person's clock",
        ),
        ({"type": "time_window", "zone": "UTC"}, "for any day by the clock of UTC"),
    ],
)
def test_a_wait_says_how_long_and_by_whose_clock(wait: dict[str, Any], words: str) -> None:
    node = _NODE.validate_python({"type": "wait", "next": "x", **wait})
    assert isinstance(node, WaitNode | TimeWindowNode)
    assert wait_words(node) == words


def test_a_wait_until_something_is_so_says_what() -> None:
    ways = [
        {"event": "order.placed", "where": {"field": "event.properties.total", "op": ">", "value": 9}, "next": "x"},
        {"when": PLAN, "next": "x"},
        {"segment": "loyal", "next": "x"},
    ]
    node = _NODE.validate_python({"type": "wait_until", "any": ways, "timeout": "P2D", "timed_out": "x"})
    assert isinstance(node, WaitUntilNode)
    assert wait_words(node) == (
        f"until order.placed comes where event.properties.total is above 9 or {PLAN_WORDS}"
        " or the person is in the segment loyal, for P2D at most"
    )


@pytest.mark.parametrize(
    ("given", "outcome", "caption", "way"),
    [
        (
            {"type": "wait", "until": "person.attributes.renews_on", "offset": "-P3D", "next": "x", "past": "y"},
            "past",
            "3 days before renews_on",
            "past",
        ),
        ({"type": "time_window", "from": "09:00", "to": "17:00", "next": "x"}, "elapsed", "09:00 to 17:00", ""),
        (
            {"type": "wait_until", "any": [{"segment": "loyal", "next": "x"}], "timeout": "PT1H", "timed_out": "y"},
            "met_0",
            "in loyal, at most 1 hour",
            "in loyal",
        ),
    ],
)
def test_a_picture_says_of_a_wait_what_it_waits_for(
    given: dict[str, Any], outcome: str, caption: str, way: str
) -> None:
    node = _NODE.validate_python(given)
    assert (captions.node(node), captions.outcome(node, outcome)) == (caption, way)
