"""What an attribute may hold, where a tenant has defined it, and what a condition may then ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final, Literal, cast

from journeys.conditions import FieldCondition
from journeys.literals import as_date, is_number

AttributeType = Literal["text", "number", "boolean", "date", "datetime", "choice", "list"]

DAY_LENGTH: Final = len("2026-01-31")

_ORDERING: Final = frozenset({">", ">=", "<", "<="})
_EQUALITY: Final = frozenset({"=", "!=", "in", "not_in"})
_PRESENCE: Final = frozenset({"exists", "missing"})
_RELATIVE: Final = frozenset({"older_than", "newer_than", "anniversary_in"})
_OPERATORS: Final[Mapping[AttributeType, frozenset[str]]] = MappingProxyType(
    {
        "text": _EQUALITY | {"contains", "starts_with"},
        "choice": _EQUALITY | {"contains", "starts_with"},
        "number": _EQUALITY | _ORDERING,
        "boolean": _EQUALITY,
        "date": _EQUALITY | _ORDERING | _RELATIVE,
        "datetime": _EQUALITY | _ORDERING | _RELATIVE,
        "list": frozenset({"contains"}),
    }
)
_A: Final[Mapping[AttributeType, str]] = MappingProxyType(
    {
        "text": "a string",
        "choice": "a string",
        "number": "a number",
        "boolean": "true or false",
        "date": "a date such as 2026-01-31",
        "datetime": "a time with its offset such as 2026-01-31T09:00:00Z",
        "list": "a list of strings",
    }
)


@dataclass(frozen=True, slots=True)
class Defined:
    """A definition of an attribute, or of another field whose type is known."""

    type: AttributeType
    choices: tuple[str, ...] | None = None
    """Of a `choice`: what is allowed; of a `list`: what its items may be."""
    minimum: float | None = None
    """Of a number its value, of a text its length in characters, of a list its items."""
    maximum: float | None = None


def value_problem(defined: Defined, value: object) -> str | None:
    """Say why a value does not fit the definition; None where it does."""
    if not _is_of_type(defined.type, value):
        return f"must be {_A[defined.type]}"
    if defined.type == "number":
        return _size_problem(defined, cast("float", value), "")
    if defined.type == "text":
        return _size_problem(defined, len(cast("str", value)), " characters")
    if defined.type == "list":
        items = cast("list[str]", value)
        return _size_problem(defined, len(items), " items") or _choice_problem(defined, items)
    return _choice_problem(defined, [cast("str", value)]) if defined.type == "choice" else None


def _is_of_type(kind: AttributeType, value: object) -> bool:
    match kind:
        case "text" | "choice":
            return isinstance(value, str)
        case "number":
            return is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "date":
            return isinstance(value, str) and len(value) == DAY_LENGTH and as_date(value) is not None
        case "datetime":
            return isinstance(value, str) and "T" in value and _has_offset(value) and as_date(value) is not None
        case "list":
            return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))


def _has_offset(text: str) -> bool:
    return text.endswith("Z") or text[-6:-5] in {"+", "-"}


def _size_problem(defined: Defined, size: float, unit: str) -> str | None:
    if defined.minimum is not None and size < defined.minimum:
        return f"must be at least {defined.minimum:g}{unit}"
    if defined.maximum is not None and size > defined.maximum:
        return f"must be at most {defined.maximum:g}{unit}"
    return None


def _choice_problem(defined: Defined, values: list[str]) -> str | None:
    if defined.choices is None or set(values) <= set(defined.choices):
        return None
    return f"must be one of {', '.join(defined.choices)}"[:500]


def comparison_problem(defined: Defined, condition: FieldCondition) -> str | None:
    """Say why a condition cannot mean anything for a field of this type; None where it can."""
    op = condition.op
    if op in _PRESENCE:
        return None
    if op not in _OPERATORS[defined.type]:
        return f"{op} cannot be asked of {condition.field}, which is of type {defined.type}"
    if op in _RELATIVE:
        return None
    given = cast("list[object]", condition.value) if isinstance(condition.value, list) else [condition.value]
    if not all(_is_comparable(defined.type, value) for value in given):
        wanted = "a string" if defined.type == "list" else _A[defined.type]
        return f"{condition.field} is of type {defined.type}: it must be compared with {wanted}"
    if op in _EQUALITY | {"contains"} and defined.type in {"choice", "list"} and op != "starts_with":
        unknown = [value for value in given if defined.choices is not None and value not in defined.choices]
        if unknown and not (defined.type == "choice" and op == "contains"):
            return f"{condition.field} is never {unknown[0]}: it is one of {', '.join(defined.choices or ())}"[:500]
    return None


def _is_comparable(kind: AttributeType, value: object) -> bool:
    if kind in {"date", "datetime"}:
        return isinstance(value, str | date) and as_date(value) is not None
    return isinstance(value, str) if kind == "list" else _is_of_type(kind, value)
