"""The in-memory evaluator holds the shared table, asks for the database only when it must, and never fails."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from journeys.conditions import Condition, FieldPath, RootCondition
from journeys.durations import zone_named
from journeys.evaluate import Facts, NeedsDatabase, evaluate, key_text, match_values, property_values
from tests.journeys.condition_cases import FIELD_CASES, NOW, TREE_CASES, FieldCase, TreeCase
from tests.journeys.strategies import conditions, json_values

CONDITIONS: TypeAdapter[Condition] = TypeAdapter(RootCondition)
SEGMENT = {"in_segment": "vip"}
TRUE = {"field": "event.properties.a", "op": "=", "value": 1}
FALSE = {"field": "event.properties.a", "op": "=", "value": 2}


Given = dict[str, Any] | None


def decide(condition: dict[str, Any], *, event: Given = None, person: Given = None, entry: Given = None) -> bool:
    facts = Facts(now=NOW, event=event, person=person, entry=entry)
    return evaluate(CONDITIONS.validate_python(condition), facts)


@pytest.mark.parametrize("case", FIELD_CASES, ids=str)
def test_a_field_compares_as_the_table_says(case: FieldCase) -> None:
    assert decide(case.condition, person={"attributes": case.attributes}) is case.expected


@pytest.mark.parametrize("case", TREE_CASES, ids=lambda case: case.name)
def test_a_tree_decides_as_the_table_says(case: TreeCase) -> None:
    assert decide(case.condition, person={"attributes": case.attributes}) is case.expected


@pytest.mark.parametrize(
    "condition",
    [
        SEGMENT,
        {"event": "order.placed"},
        {"related": "deal"},
        {"not": SEGMENT},
        {"all": [SEGMENT, TRUE]},
        {"any": [FALSE, SEGMENT]},
        {"field": "person.email", "op": "exists"},
        {"field": "entry.cart_id", "op": "missing"},
        {"field": "deal.status", "op": "=", "value": "open"},
        {"field": "record:vehicle.year", "op": ">", "value": 2000},
    ],
    ids=str,
)
def test_what_only_the_database_knows_is_asked_there(condition: dict[str, Any]) -> None:
    with pytest.raises(NeedsDatabase):
        decide(condition, event={"properties": {"a": 1}})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"all": [SEGMENT, FALSE]}, False),
        ({"all": [FALSE, SEGMENT]}, False),
        ({"any": [SEGMENT, TRUE]}, True),
        ({"not": {"any": [{"all": [SEGMENT, FALSE]}, TRUE]}}, False),
    ],
)
def test_the_database_is_not_asked_when_the_rest_decides(condition: dict[str, Any], *, expected: bool) -> None:
    assert decide(condition, event={"properties": {"a": 1}}) is expected


def test_an_anniversary_falls_on_the_day_of_the_zone() -> None:
    from_utc = {"field": "person.attributes.x", "op": "anniversary_in", "value": "P1D"}
    facts = Facts(
        now=NOW.replace(hour=23), person={"attributes": {"x": "1990-03-16"}}, zone=zone_named("Europe/Berlin")
    )
    assert evaluate(CONDITIONS.validate_python(from_utc), facts)
    assert not evaluate(CONDITIONS.validate_python(from_utc), replace(facts, zone=UTC))


def test_match_values_are_taken_from_the_entry() -> None:
    match = {FieldPath.parse("event.properties.cart.id"): FieldPath.parse("entry.cart_id")}
    assert match_values(match, {"cart_id": 7}) == {"cart.id": "7"}
    assert property_values(["cart.id"], {"cart": {"id": "7"}}) == {"cart.id": "7"}
    assert match_values({}, {}) == {}


@pytest.mark.parametrize("entry", [{}, {"cart_id": None}, {"cart_id": ""}, {"cart_id": ["c"]}, {"cart_id": "c" * 501}])
def test_an_entry_without_the_value_matches_no_event(entry: dict[str, Any]) -> None:
    assert match_values({FieldPath.parse("event.properties.cart_id"): FieldPath.parse("entry.cart_id")}, entry) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("c1", "c1"),
        (5, "5"),
        (1.5, "1.5"),
        (1e22, "1" + "0" * 22),
        (-0.0, "0.0"),
        (True, "true"),
        (None, None),
        ({}, None),
    ],
)
def test_keys_are_the_text_that_jsonb_gives(value: object, text: str | None) -> None:
    assert key_text(value) == text


@given(condition=conditions(), facts=st.fixed_dictionaries({"cart": json_values(), "a": json_values()}))
def test_the_evaluator_never_fails(condition: dict[str, Any], facts: dict[str, Any]) -> None:
    everywhere = {"event": {"properties": facts}, "person": {"attributes": facts}, "entry": facts}
    with suppress(NeedsDatabase):
        assert decide({"not": condition}, **everywhere) is not decide(condition, **everywhere)
