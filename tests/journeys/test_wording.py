"""Conditions and waits in plain words."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from journeys.conditions import Condition
from journeys.nodes import WaitNode
from journeys.wording import MAX_SEEN, condition_words, seen_by_key, wait_words

_CONDITION = TypeAdapter[Condition](Condition)
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


def test_a_wait_says_how_long_and_by_whose_clock() -> None:
    wait = WaitNode.model_validate({"type": "wait", "for": "P1D", "until_time": "09:00", "next": "x"})
    assert wait_words(wait) == "for P1D, then until 09:00 by the person's clock"
    wait = WaitNode.model_validate({"type": "wait", "until_time": "09:00", "zone": "Asia/Tokyo", "next": "x"})
    assert wait_words(wait) == "until 09:00 by the clock of Asia/Tokyo"
