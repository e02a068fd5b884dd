"""Conditions have one form; what does not fit its operator is refused where it stands."""

from typing import Any

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from journeys.conditions import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    Condition,
    FieldPath,
    RootCondition,
    events_of,
    fields_of,
    segments_of,
    walk,
)
from journeys.validation import problems_of
from tests.journeys.strategies import conditions, json_values

ADAPTER: TypeAdapter[Condition] = TypeAdapter(RootCondition)
LEAF = {"field": "person.email", "op": "exists"}
EXAMPLE: dict[str, Any] = {
    "all": [
        {"field": "person.attributes.plan", "op": "in", "value": ["pro", "team"]},
        {"not": {"in_segment": "do_not_disturb"}},
        {
            "any": [
                {
                    "event": "order.placed",
                    "count": {"op": ">=", "value": 3},
                    "within": "P7D",
                    "where": {"field": "event.properties.total", "op": ">", "value": 20},
                },
                {"event": "page.viewed", "count": {"op": "=", "value": 0}},
                {"related": "deal", "where": {"field": "deal.status", "op": "=", "value": "open"}},
                {"field": "person.created_at", "op": "older_than", "value": "P30D"},
            ]
        },
    ]
}


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = LEAF
    for _ in range(depth - 1):
        condition = {"not": condition}
    return condition


def paths(raw: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(raw)
    return [problem.path for problem in problems_of(caught.value)]


def test_the_example_of_the_design_is_read_walked_and_written() -> None:
    condition = ADAPTER.validate_python(EXAMPLE)
    assert ADAPTER.dump_python(condition, mode="json", by_alias=True, exclude_unset=True) == EXAMPLE
    assert {str(field) for field in fields_of(condition)} == {
        "person.attributes.plan",
        "event.properties.total",
        "deal.status",
        "person.created_at",
    }
    assert events_of(condition) == {"order.placed", "page.viewed"}
    assert segments_of(condition) == {"do_not_disturb"}
    assert len(list(walk(condition))) == 11


@given(conditions())
def test_a_condition_survives_the_round_trip(raw: dict[str, Any]) -> None:
    condition = ADAPTER.validate_python(raw)
    written = ADAPTER.dump_python(condition, mode="json", by_alias=True, exclude_unset=True)
    assert written == raw
    assert ADAPTER.validate_python(written) == condition


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("=", None),
        ("=", [1]),
        ("!=", {}),
        ("=", float("nan")),
        ("=", 10**30),
        ("=", 10**400),
        ("=", "a\x00b"),
        ("=", "\ud800"),
        (">", "abc"),
        (">", True),
        (">", "100"),
        (">=", None),
        ("<", "2026-02-30"),
        ("<=", float("inf")),
        ("in", []),
        ("in", "pro"),
        ("in", [["pro"]]),
        ("in", [None]),
        ("in", ["a"] * 1001),
        ("not_in", {"a": 1}),
        ("contains", ""),
        ("contains", None),
        ("contains", ["a"]),
        ("starts_with", ""),
        ("starts_with", 5),
        ("exists", True),
        ("missing", "x"),
        ("older_than", 30),
        ("older_than", "30 days"),
        ("newer_than", None),
        ("newer_than", "P0D"),
        ("anniversary_in", "PT1H"),
        ("anniversary_in", "P1DT1H"),
    ],
)
def test_a_value_that_does_not_fit_its_operator_is_refused(op: str, value: object) -> None:
    assert paths({"field": "person.attributes.x", "op": op, "value": value}) == ["value"]


def test_an_operator_without_its_value_is_refused() -> None:
    assert paths({"field": "person.attributes.x", "op": "="}) == ["value"]


WRONG_FORMS: list[tuple[Any, str]] = [
    ({}, ""),
    ([], ""),
    ("person.email", ""),
    (None, ""),
    ({"op": "="}, ""),
    ({**LEAF, "extra": 1}, "extra"),
    ({"all": []}, "all"),
    ({"all": [LEAF], "any": [LEAF]}, "any"),
    ({"all": [LEAF, {"not": {}}]}, "all.1.not"),
    ({"all": {"0": LEAF}}, "all"),
    ({"any": [{"not": {**LEAF, "op": "like"}}]}, "any.0.not.op"),
    ({"in_segment": "Not A Key"}, "in_segment"),
    ({"in_segment": "vip\n"}, "in_segment"),
    ({"event": ""}, "event"),
    ({"event": "order placed"}, "event"),
    ({"event": "e", "count": {"op": ">=", "value": -1}}, "count.value"),
    ({"event": "e", "count": {"op": ">=", "value": True}}, "count.value"),
    ({"event": "e", "count": {"op": "in", "value": 1}}, "count.op"),
    ({"event": "e", "within": "7 days"}, "within"),
    ({"event": "e", "where": {**LEAF, "field": "email"}}, "where.field"),
    ({"related": "cart"}, "related"),
    ({"related": "record:A B"}, "related"),
]


@pytest.mark.parametrize(("raw", "path"), WRONG_FORMS)
def test_a_wrong_form_is_refused_where_it_stands(raw: object, path: str) -> None:
    assert paths(raw) == [path]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("person.attributes.plan", FieldPath("person", ("attributes", "plan"))),
        ("event.type", FieldPath("event", ("type",))),
        ("record:vehicle.year", FieldPath("record", ("year",), "vehicle")),
        ("entry.Größe in cm", FieldPath("entry", ("Größe in cm",))),
    ],
)
def test_a_path_is_read_and_written(text: str, field: FieldPath) -> None:
    assert FieldPath.parse(text) == field
    assert str(field) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "person", "person.", ".email", "person..x", "email", "Person.x", "record.x", "person:a.x", "person. x"),
        *("person.x ", "person.a\x00", "person.a\nb", "person." + "a" * 101, "person" + ".aaaa" * 60, "person.\ud800"),
        *("record:.x", "record:A.x"),
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|is not the key"):
        FieldPath.parse(text)


def test_trees_are_limited_in_depth_and_size() -> None:
    ADAPTER.validate_python(nested(MAX_DEPTH))
    ADAPTER.validate_python({"all": [LEAF] * (MAX_CONDITIONS - 1)})
    assert paths(nested(MAX_DEPTH + 1)) == [""]
    assert paths(nested(900)) == [""]
    assert paths({"all": [LEAF] * MAX_CONDITIONS}) == [""]
    assert paths({"all": [{"any": [LEAF] * 100}, {"event": "e", "where": {"all": [LEAF] * 100}}]}) == [""]


@given(json_values())
def test_any_json_is_a_condition_or_a_validation_error(raw: object) -> None:
    try:
        ADAPTER.validate_python(raw)
    except ValidationError as error:
        problems = problems_of(error)
    else:
        problems = None
    assert problems != []
