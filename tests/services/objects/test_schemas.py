"""Schemas of strangers: what bombs is refused or harmless, and soon."""

import time
from typing import Any

import pytest

from services.objects.schemas import MAX_BYTES, MAX_PARTS, MAX_PROPERTIES, Validator, problems_of, validator


def of(**words: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"type": "object", **words}


def nested(levels: int) -> Any:  # noqa: ANN401 - JSON
    inner: Any = True
    for _ in range(levels):
        inner = {"not": inner}
    return inner


DOUBLED = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": True}
BOMBS: dict[str, tuple[dict[str, Any], str]] = {
    "a circle of one": (of(**{"$ref": "#"}), "schema"),
    "a circle of two": (
        of(**{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        "schema.$defs.a",
    ),
    "a circle through items": (of(properties={"a": {"items": {"$ref": "#/properties/a"}}}), "schema.properties.a"),
    "a circle by a pointer in disguise": (
        of(properties={"a/b": {"$ref": "#/properties/a%7E1b"}}),
        "schema.properties.a/b",
    ),
    "two to the thirty": (of(**{"$defs": DOUBLED, "$ref": "#/$defs/d0"}), "schema"),
    "a remote reference": (of(properties={"a": {"$ref": "https://evil.example/"}}), "schema.properties.a.$ref"),
    "a reference to a file": (of(properties={"a": {"$ref": "file:///etc/passwd"}}), "schema.properties.a.$ref"),
    "a reference to nothing": (of(properties={"a": {"$ref": "#/$defs/none"}}), "schema.properties.a.$ref"),
    "a reference to the dialect": (
        of(properties={"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}),
        "schema.properties.a.$ref",
    ),
    "a dynamic reference": (of(properties={"a": {"$dynamicRef": "#x"}}), "schema.properties.a"),
    "an id below": (of(properties={"a": {"$id": "https://evil.example/"}}), "schema.properties.a"),
    "look-around": (of(properties={"a": {"pattern": "^(?=a)"}}), "schema.properties.a.pattern"),
    "a back-reference": (of(patternProperties={r"(a)\1": True}), r"schema.patternProperties.(a)\1"),
    "huge counts": (of(properties={"a": {"pattern": "((a{1,999}){1,999}){1,999}"}}), "schema.properties.a.pattern"),
    "many patterns": (of(patternProperties={f"^{n}": True for n in range(51)}), "schema"),
    "depth": (of(properties={"a": nested(40)}), "schema"),
    "size": (of(description="x" * MAX_BYTES), "schema"),
    "many properties": (of(properties={f"p{n}": True for n in range(MAX_PROPERTIES + 1)}), "schema.properties"),
    "a huge number": (of(properties={"a": {"maximum": 10**31}}), "schema"),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_refused_at_its_place_and_soon(name: str) -> None:
    schema, field = BOMBS[name]
    begun = time.process_time()
    problems = problems_of(schema)
    assert [problem.field for problem in problems] == [field]
    assert time.process_time() - begun < 2, "hours, were it not refused"


def test_a_pattern_that_would_backtrack_takes_no_time() -> None:
    schema = of(properties={"a": {"pattern": "^(a+)+$"}}, patternProperties={"^(b+)+$": True})
    assert problems_of(schema) == []
    begun = time.process_time()
    assert not validator(schema).fits({"a": "a" * 10_000 + "!", "b" * 10_000 + "!": 1})
    assert time.process_time() - begun < 2, "for ever, were it to backtrack"


def test_the_largest_schema_is_taken_and_checked_soon() -> None:
    parts = (MAX_PARTS - 3) // 500
    schema = of(properties={f"p{n}": {"anyOf": [True] * (parts - 1)} for n in range(500)})
    assert problems_of(schema) == []
    begun = time.process_time()
    assert validator(schema).fits({f"p{n}": "x" for n in range(500)})
    assert time.process_time() - begun < 2


def test_what_only_looks_like_a_keyword_is_a_name_or_data() -> None:
    assert problems_of(of(properties={"$ref": {"const": {"$ref": "https://evil.example/"}}})) == []
    assert problems_of(of(properties={"pattern": {"enum": ["("]}}, examples=[{"$dynamicRef": "#"}])) == []
    assert problems_of(of(**{"$defs": {"a~b/c": True}, "properties": {"a": {"$ref": "#/$defs/a~0b~1c"}}})) == []


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date", "2026-02-28", "2026-02-30"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("email", "ann@shop.example", "ann"),
        ("uri", "https://shop.example/", "shop"),
        ("uuid", "00000000-0000-7000-8000-000000000000", "1"),
        ("ipv4", "10.0.0.1", "10.0.0"),
    ],
)
def test_formats_are_checked(form: str, good: str, bad: str) -> None:
    check = Validator(f'{{"type": "object", "properties": {{"a": {{"format": "{form}"}}}}}}')
    assert check.fits({"a": good})
    assert [problem.field for problem in check.problems({"a": bad})] == ["properties.a"]


def test_problems_name_the_property_and_the_reason() -> None:
    schema = of(
        properties={
            "kind": {"enum": ["a", "b"]},
            "number": {"type": ["integer", "null"]},
            "size": {"maximum": 3},
            "short": {"maxLength": 2},
            "code": {"pattern": "^x"},
            "lines": {"items": {"type": "object", "required": ["sku"]}},
        },
        required=["name"],
        additionalProperties=False,
    )
    found = validator(schema).problems(
        {"kind": "c", "number": "1", "size": 4, "short": "abc", "code": "y", "lines": [{"sku": 1}, {}], "more.x": 1}
    )
    assert {problem.field: problem.reason for problem in found} == {
        "properties.name": "is required",
        "properties.kind": 'must be one of "a", "b"',
        "properties.number": "must be null or an integer",
        "properties.size": "is greater than the maximum of 3",
        "properties.short": "is longer than 2 characters",
        "properties.code": "must match the pattern ^x",
        "properties.lines.1.sku": "is required",
        "properties.more.x": "is not a property of this object",
    }


def test_of_many_problems_a_page_is_told() -> None:
    schema = of(properties={"a": {"items": {"type": "string"}}})
    assert len(validator(schema).problems({"a": [1] * 5_000})) == 20
