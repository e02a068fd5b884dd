"""What each comparison gives: the one table that the in-memory evaluator and the SQL compiler are both tested against.

A case stores `actual` as `person.attributes.x` (`ABSENT`: no such key), compares it at `NOW`, in UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

NOW: Final = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
ABSENT: Final = object()


@dataclass(frozen=True)
class FieldCase:
    op: str
    literal: Any
    actual: Any
    expected: bool

    @property
    def condition(self) -> dict[str, Any]:
        value = {} if self.op in {"exists", "missing"} else {"value": self.literal}
        return {"field": "person.attributes.x", "op": self.op, **value}

    @property
    def attributes(self) -> dict[str, Any]:
        return {} if self.actual is ABSENT else {"x": self.actual}

    def __str__(self) -> str:
        actual = "absent" if self.actual is ABSENT else repr(self.actual)
        return f"{actual} {self.op} {self.literal!r} is {self.expected}"


def _cases(
    op: str, literal: object, *, true: tuple[object, ...] = (), false: tuple[object, ...] = ()
) -> list[FieldCase]:
    return [
        FieldCase(op, literal, actual, expected)
        for group, expected in ((true, True), (false, False))
        for actual in group
    ]


NOTHING: Final = (ABSENT, None)
BIG: Final = 12345678901234567890

FIELD_CASES: Final[list[FieldCase]] = [
    # Equality follows the literal's kind.
    *_cases("=", "pro", true=("pro",), false=(*NOTHING, "Pro", "pro ", "", 1, True, ["pro"], {"pro": 1})),
    *_cases("=", "5", true=("5",), false=(5, "5.0", "05")),
    *_cases("=", "", true=("",), false=(*NOTHING, 0, False, [], {})),
    *_cases("=", 100, true=(100, 100.0, "100", "100.00", "0100"), false=(*NOTHING, "100 ", " 100", "1e2", True, [100])),
    *_cases("=", 0, true=(0, 0.0, "0", "-0", "0.00"), false=(False, "", "zero", [], *NOTHING)),
    *_cases("=", 0.1, true=(0.1, "0.1", "0.10"), false=(0.10000001, ".1", "0,1")),
    *_cases("=", -2.5, true=(-2.5, "-2.50"), false=(2.5, "--2.5", "+2.5")),
    *_cases("=", BIG, true=(BIG, str(BIG)), false=(BIG + 1, str(BIG + 1))),
    *_cases("=", True, true=(True,), false=(*NOTHING, False, 1, "true", "1")),
    *_cases("=", False, true=(False,), false=(*NOTHING, True, 0, "false", "")),
    *_cases(
        "=",
        "2026-03-15",
        true=("2026-03-15", "2026-03-15T00:00:00Z", "2026-03-15 00:00", "2026-03-15T02:00:00+02:00"),
        false=(*NOTHING, "2026-03-15T00:00:01Z", "2026-3-15", "15.03.2026", 20260315, "2026-03-15T"),
    ),
    # No day of the calendar, so text.
    *_cases("=", "2026-02-30", true=("2026-02-30",), false=("2026-03-02", "2026-02-30T00:00:00Z")),
    *_cases("=", "naïve ☃ 'quoted' %_\\", true=("naïve ☃ 'quoted' %_\\",), false=("naïve ☃ 'quoted' x_\\",)),
    # What is missing is not different either.
    *_cases("!=", "pro", true=("Pro", "", 1, True, ["pro"], {}), false=(*NOTHING, "pro")),
    *_cases("!=", 100, true=(101, "abc", True, []), false=(*NOTHING, 100, "100.00")),
    *_cases("!=", True, true=(False, 1, "true"), false=(*NOTHING, True)),
    *_cases("!=", "2026-03-15", true=("2026-03-16", "never", 3), false=(*NOTHING, "2026-03-15T00:00Z")),
    # Order: numbers with numbers, dates with dates.
    *_cases(
        ">", 20, true=(21, 20.01, "20.01", "100.00"), false=(*NOTHING, 20, "20", 3, "3", True, "abc", [21], {}, "")
    ),
    *_cases(">=", 20, true=(20, "20.00", 21), false=(*NOTHING, 19.99, "19.99", "", "2o")),
    *_cases("<", 20, true=(19, "9", -1, "-5"), false=(*NOTHING, 20, "20.0", 21, False, "", "abc")),
    *_cases("<=", 20, true=(20, "20.000", 0), false=(*NOTHING, 20.001, True, "x")),
    *_cases(
        ">",
        "2026-01-31",
        true=("2026-02-01", "2026-01-31T00:00:01Z", "2026-01-31T00:00:00.000001Z", "2026-01-30T23:30:00-01:00"),
        false=(
            *NOTHING,
            "2026-01-31",
            "2026-01-31T01:00:00+02:00",
            "2026-02-30",
            "tomorrow",
            "infinity",
            20260201,
            True,
        ),
    ),
    *_cases(
        "<=",
        "2026-01-31T10:00:00Z",
        true=("2026-01-31T10:00:00Z", "2026-01-31"),
        false=("2026-01-31T10:00:01", "0000-01-01"),
    ),
    *_cases(
        "<",
        "2026-01-31",
        true=("1000-01-01", "1999-12-31"),
        false=("2026-01-31", "", "now", "0999-01-01", "2026-13-01", "2026-01-01T24:00"),
    ),
    # Lists.
    *_cases("in", ["pro", "team", 5], true=("pro", "team", 5, "5.0"), false=(*NOTHING, "Pro", "", ["pro"], True)),
    *_cases("in", ["5"], true=("5",), false=(5, "5.0")),
    *_cases("in", [True], true=(True,), false=(1, "true", False)),
    *_cases("not_in", ["pro", 5], true=("free", 6, "", [], True), false=(*NOTHING, "pro", 5, "5")),
    # Parts.
    *_cases("contains", "ro", true=("pro", "ro", ["ro", 1]), false=(*NOTHING, "PRO", "r", ["pro"], {"ro": 1}, 5, [])),
    *_cases("contains", "%", true=("100%",), false=("100",)),
    *_cases("contains", "_", true=("a_b",), false=("ab",)),
    *_cases("contains", 5, true=([1, 5], ["5.0"]), false=("5", 5, [True], ["x"], [[5]], *NOTHING)),
    *_cases("contains", True, true=([True],), false=([1], ["true"], "true", *NOTHING)),
    *_cases("starts_with", "pro", true=("pro", "professional"), false=(*NOTHING, "Pro", " pro", "p", ["pro"], 5)),
    *_cases("starts_with", "a%", true=("a%b",), false=("ab",)),
    *_cases("starts_with", "1", true=("100",), false=(100, True)),
    # Presence.
    *_cases("exists", None, true=("", 0, False, [], {}, "x"), false=NOTHING),
    *_cases("missing", None, true=NOTHING, false=("", 0, False, [], {}, "x")),
    # Relative dates.
    *_cases(
        "older_than",
        "P30D",
        true=("2026-02-13", "2026-02-13T11:59:59Z", "2026-02-13T12:59:00+01:00", "1990-01-01"),
        false=(*NOTHING, "2026-02-13T12:00:00Z", "2026-02-14", "2030-01-01", "long ago", 0, True, ""),
    ),
    *_cases(
        "newer_than",
        "P30D",
        true=("2026-02-13T12:00:00Z", "2026-02-14", "2030-01-01"),
        false=(*NOTHING, "2026-02-13", "2026-02-13T11:59:59Z", "long ago", 1, True),
    ),
    *_cases("newer_than", "PT1H", true=("2026-03-15T11:00:00Z",), false=("2026-03-15T10:59:59Z", "2026-03-15")),
    *_cases("older_than", "P1M", true=("2026-02-15T11:59Z",), false=("2026-02-15T12:00Z",)),
    *_cases("older_than", "P1M1D", true=("2026-02-14T11:59Z",), false=("2026-02-14T12:00Z",)),
    *_cases(
        "anniversary_in",
        "P1D",
        true=("1990-03-15", "2026-03-15", "2031-03-15", "1990-03-15T23:00:00Z"),
        false=(*NOTHING, "1990-03-16", "1990-03-14", "03-15", 315, ""),
    ),
    *_cases("anniversary_in", "P7D", true=("1990-03-15", "1990-03-21"), false=("1990-03-22", "1990-03-14")),
    *_cases("anniversary_in", "P1M", true=("1990-04-14",), false=("1990-04-15",)),
    *_cases(
        "anniversary_in", "P351D", true=("2000-02-28", "2000-02-29", "1999-12-31"), false=("2000-03-01", "2000-03-14")
    ),
]


@dataclass(frozen=True)
class TreeCase:
    name: str
    condition: dict[str, Any]
    attributes: dict[str, Any]
    expected: bool


_TRUE: Final = {"field": "person.attributes.a", "op": "=", "value": 1}
_FALSE: Final = {"field": "person.attributes.a", "op": "=", "value": 2}
_ABSENT: Final = {"field": "person.attributes.b", "op": "=", "value": 1}

TREE_CASES: Final[list[TreeCase]] = [
    TreeCase("all true", {"all": [_TRUE, _TRUE]}, {"a": 1}, expected=True),
    TreeCase("all with one false", {"all": [_TRUE, _FALSE]}, {"a": 1}, expected=False),
    TreeCase("any with one true", {"any": [_FALSE, _TRUE]}, {"a": 1}, expected=True),
    TreeCase("any all false", {"any": [_FALSE, _ABSENT]}, {"a": 1}, expected=False),
    TreeCase("not false", {"not": _FALSE}, {"a": 1}, expected=True),
    # False, never unknown: SQL's NULL must not swallow it.
    TreeCase("not missing value", {"not": _ABSENT}, {"a": 1}, expected=True),
    TreeCase("not of all with a missing value", {"not": {"all": [_TRUE, _ABSENT]}}, {"a": 1}, expected=True),
    TreeCase("not of any with a missing value", {"not": {"any": [_FALSE, _ABSENT]}}, {"a": 1}, expected=True),
    TreeCase(
        "nested object", {"field": "person.attributes.a.b", "op": "=", "value": "c"}, {"a": {"b": "c"}}, expected=True
    ),
    TreeCase(
        "a step into a scalar is missing", {"field": "person.attributes.a.b", "op": "missing"}, {"a": 1}, expected=True
    ),
    TreeCase(
        "a step into a list is missing", {"field": "person.attributes.a.0", "op": "missing"}, {"a": [1]}, expected=True
    ),
    TreeCase(
        "a step into null is missing", {"field": "person.attributes.a.b", "op": "missing"}, {"a": None}, expected=True
    ),
    TreeCase("an object exists", {"field": "person.attributes.a", "op": "exists"}, {"a": {"b": None}}, expected=True),
    TreeCase(
        "odd names are names",
        {"field": 'person.attributes.it\'s "a" {b}', "op": "=", "value": 1},
        {'it\'s "a" {b}': 1},
        expected=True,
    ),
]
