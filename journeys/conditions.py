"""The condition tree: one language for branches, entry filters, goals, segments and automation.

Only the shape is checked here: which operator takes which value, how deep and how large a tree may be. Whether a field,
segment or template exists is `journeys.validation`; what a condition means is `journeys.evaluate`, and the SQL compiler
must agree with it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from journeys.durations import Duration, DurationText
from journeys.literals import compares_as_date, is_number, is_scalar, storable

Root = Literal["person", "event", "entry", "organization", "deal", "order", "record"]
Operator = Literal[
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "exists",
    "missing",
    "older_than",
    "newer_than",
    "anniversary_in",
]
CountOperator = Literal["=", "!=", ">", ">=", "<", "<="]

ROOTS: Final[tuple[str, ...]] = get_args(Root)
MAX_DEPTH: Final = 12
MAX_CONDITIONS: Final = 200
MAX_CHOICES: Final = 1000
MAX_PATH_LENGTH: Final = 300

_KEY: Final = r"[a-z0-9_-]{1,64}"
_RECORD_KEY = re.compile(_KEY)
# Property names are the tenant's own: anything printable but dots, and no spaces at the ends.
_STEP = re.compile(r"[^\s.\x00-\x1f\x7f](?:[^.\x00-\x1f\x7f]{0,98}[^\s.\x00-\x1f\x7f])?")

Key = Annotated[str, Field(pattern=f"^{_KEY}$")]
"""A name that the tenant gave to a segment, template, journey or node."""
EventType = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
"""The type of an event, such as `order.placed`; tenants send what types they like, so only the form is checked."""


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A field of one root: `person.attributes.plan`, `event.properties.total`, `record:vehicle.year`."""

    root: Root
    path: tuple[str, ...]
    """The steps below the root, at least one."""
    record_key: str | None = None
    """The object's key where the root is `record`."""

    @classmethod
    def parse(cls, text: str) -> "FieldPath":
        """Read `root.step[.step]...`; `ValueError` says what is wrong with it."""
        head, *steps = text[: MAX_PATH_LENGTH + 1].split(".")
        root, colon, record_key = head.partition(":")
        if root not in ROOTS or bool(colon) != (root == "record"):
            known = ", ".join("record:KEY" if name == "record" else name for name in ROOTS)
            raise ValueError(f"{text[:80]!r} must begin with one of {known}")
        if len(text) > MAX_PATH_LENGTH or not steps or not all(map(is_step, steps)):
            raise ValueError(f"{text[:80]!r} must name a field, as in person.attributes.plan")
        if colon and not _RECORD_KEY.fullmatch(record_key):
            raise ValueError(f"{record_key[:80]!r} is not the key of an object")
        storable(text)
        return cls(cast("Root", root), tuple(steps), record_key or None)

    def __str__(self) -> str:
        head = f"record:{self.record_key}" if self.record_key else self.root
        return ".".join((head, *self.path))


def is_step(name: str) -> bool:
    """Whether a name can be one step of a path."""
    return _STEP.fullmatch(name) is not None


def _to_field_path(value: Any) -> FieldPath:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, FieldPath):
        return value
    if not isinstance(value, str):
        raise ValueError("must be the path of a field, as a string")  # noqa: TRY004 - only a ValueError becomes a validation error
    return FieldPath.parse(value)


FieldPathText = Annotated[
    FieldPath,
    PlainValidator(_to_field_path),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["person.attributes.plan"], "maxLength": MAX_PATH_LENGTH}),
]
"""A `FieldPath` that is its own text in JSON."""


class Strict(BaseModel):
    """What every part of the language is: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class FieldCondition(Strict):
    """Compare a field with a literal."""

    field: FieldPathText
    op: Operator
    value: JsonValue = None
    """What the operator needs: a scalar, a list for `in`, a duration for the relative dates, nothing for `exists`."""

    # Before JSON's own check, which would tell of the depths of a value that is none of ours.
    @field_validator("value", mode="before")
    @classmethod
    def _fits_operator(cls, value: object, info: ValidationInfo) -> object:
        op = info.data.get("op")
        if op is not None:
            _check_operand(op, value)
        return value

    def duration(self) -> Duration:
        """Return the value of `older_than`, `newer_than` or `anniversary_in`."""
        return Duration.parse(str(self.value))


class Count(Strict):
    """How often an event must have happened."""

    op: CountOperator
    value: Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class EventCondition(Strict):
    """Whether an event happened to the subject, and how often."""

    event: EventType
    count: Count = Count(op=">=", value=1)
    within: DurationText | None = None
    """Counts only what occurred at most this long ago."""
    where: "Condition | None" = None
    """Counts only events for which this holds; in it, `event` is the one counted."""


class SegmentCondition(Strict):
    """Whether the subject is a member of a segment now."""

    in_segment: Key


class RelatedCondition(Strict):
    """Whether something related to the subject exists for which `where` holds."""

    related: Annotated[str, Field(pattern=f"^(organization|deal|order|record:{_KEY})$")]
    where: "Condition | None" = None


class AllOf(Strict):
    """Every condition holds."""

    conditions: Annotated[tuple["Condition", ...], Field(alias="all", min_length=1)]


class AnyOf(Strict):
    """At least one condition holds."""

    conditions: Annotated[tuple["Condition", ...], Field(alias="any", min_length=1)]


class Not(Strict):
    """The condition does not hold."""

    condition: Annotated["Condition", Field(alias="not")]


_KINDS: Final[dict[type[Strict], str]] = {
    AllOf: "all",
    AnyOf: "any",
    Not: "not",
    FieldCondition: "field",
    EventCondition: "event",
    SegmentCondition: "in_segment",
    RelatedCondition: "related",
}


def _tag(value: Any) -> str | None:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        kind = next((kind for kind in _KINDS.values() if kind in value), None)
    else:
        kind = _KINDS.get(cast("type[Strict]", type(value)))
    return kind and f"<{kind}>"


# Error locations hold the tags: in angle brackets they are told from the keys of the JSON.
Condition: TypeAlias = Annotated[
    Annotated[AllOf, Tag("<all>")]
    | Annotated[AnyOf, Tag("<any>")]
    | Annotated[Not, Tag("<not>")]
    | Annotated[FieldCondition, Tag("<field>")]
    | Annotated[EventCondition, Tag("<event>")]
    | Annotated[SegmentCondition, Tag("<in_segment>")]
    | Annotated[RelatedCondition, Tag("<related>")],
    Discriminator(
        _tag,
        custom_error_type="condition_kind",
        custom_error_message="must be an object with one of all, any, not, field, event, in_segment, related",
    ),
]
"""Any condition."""


def _within_limits(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Refuse a tree too deep or too large before anything recurses into it."""
    level: list[object] = [value]
    total = 0
    for _ in range(MAX_DEPTH):
        total += len(level)
        if total > MAX_CONDITIONS:
            raise ValueError(f"a condition may hold at most {MAX_CONDITIONS} conditions")
        level = [child for condition in level for child in _raw_children(condition)]
        if not level:
            return value
    raise ValueError(f"conditions may be nested at most {MAX_DEPTH} deep")


def _raw_children(condition: object) -> Iterator[object]:
    if isinstance(condition, dict):
        known = cast("dict[object, object]", condition)
        for key in ("all", "any", "not", "where"):
            child = known.get(key)
            if isinstance(child, list):
                yield from cast("list[object]", child)
            elif isinstance(child, dict):
                yield cast("object", child)


RootCondition: TypeAlias = Annotated[Condition, BeforeValidator(_within_limits)]
"""A whole condition tree as it comes from outside: like `Condition`, with its depth and size limited."""

for _model in (EventCondition, RelatedCondition, AllOf, AnyOf, Not):
    _model.model_rebuild()


def children(condition: Condition) -> tuple[tuple[tuple[str | int, ...], Condition], ...]:
    """Return the conditions directly inside, each with its place in the JSON."""
    match condition:
        case AllOf():
            return tuple((("all", index), child) for index, child in enumerate(condition.conditions))
        case AnyOf():
            return tuple((("any", index), child) for index, child in enumerate(condition.conditions))
        case Not():
            return ((("not",), condition.condition),)
        case EventCondition() | RelatedCondition() if condition.where is not None:
            return ((("where",), condition.where),)
        case _:
            return ()


def walk(condition: Condition) -> Iterator[Condition]:
    """Yield the condition and all inside it, outermost first."""
    yield condition
    for _, child in children(condition):
        yield from walk(child)


def fields_of(condition: Condition) -> frozenset[FieldPath]:
    """Return the fields that a condition compares."""
    return frozenset(part.field for part in walk(condition) if isinstance(part, FieldCondition))


def events_of(condition: Condition) -> frozenset[str]:
    """Return the types of the events that a condition counts."""
    return frozenset(part.event for part in walk(condition) if isinstance(part, EventCondition))


def segments_of(condition: Condition) -> frozenset[str]:
    """Return the keys of the segments that a condition asks about."""
    return frozenset(part.in_segment for part in walk(condition) if isinstance(part, SegmentCondition))


def _are_choices(values: list[object]) -> bool:
    return 0 < len(values) <= MAX_CHOICES and all(map(is_scalar, values))


def _check_operand(op: str, value: object) -> None:
    """Raise `ValueError` unless `value` is what `op` compares with."""
    storable(value)
    match op:
        case "exists" | "missing":
            good, wanted = value is None, "no value"
        case "in" | "not_in":
            good = isinstance(value, list) and _are_choices(cast("list[object]", value))
            wanted = f"a list of 1 to {MAX_CHOICES} strings, numbers or booleans"
        case ">" | ">=" | "<" | "<=":
            good, wanted = is_number(value) or compares_as_date(value), "a number or a date such as 2026-01-31"
        case "starts_with":
            good, wanted = isinstance(value, str) and bool(value), "a string that is not empty"
        case "contains":
            good, wanted = is_scalar(value) and value != "", "a string that is not empty, a number or a boolean"
        case "older_than" | "newer_than" | "anniversary_in":
            if isinstance(value, str) and (Duration.parse(value).whole_days or op != "anniversary_in"):
                return
            good, wanted = False, "a duration of whole days such as P7D" if op == "anniversary_in" else "a duration"
        case _:
            good, wanted = is_scalar(value), "a string, a number or a boolean"
    if not good:
        raise ValueError(f"{op} needs {wanted}")
