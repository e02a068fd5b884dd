"""The JSON Schemas of objects: which a tenant may give, and how a record is held to one.

A schema comes from a stranger. So nothing is ever fetched for it, its patterns run in linear time (by Rust's `regex`,
which knows neither look-around nor back-references), it refers only to places within itself and never in a circle, and
all its parts together, each counted as often as it is referred to, are bounded: so is the work of one check.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, cast
from urllib.parse import unquote

import jsonschema_rs
from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationErrorKind

from core.errors import FieldProblem
from journeys.conditions import is_step
from journeys.literals import MAX_NUMBER
from services.shared.related import RECORD_FIELDS

MAX_BYTES: Final = 64 * 1024
"""Of a schema, as JSON in UTF-8."""
MAX_DEPTH: Final = 32
MAX_PROPERTIES: Final = 500
"""Of an object, on the top level."""
MAX_PARTS: Final = 5_000
"""Schemas in a schema, each counted as often as it applies."""
MAX_PATTERNS: Final = 50
"""Each may take a megabyte of memory when it is compiled."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ONE: Final = (
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_LIST: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_REFUSED: Final = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")
_PATTERNS: Final = RegexOptions(size_limit=1_000_000, dfa_size_limit=1_000_000)
_SHOWN: Final = 300
_MAX_PROBLEMS: Final = 20

Schema = Mapping[str, Any]


class Validator:
    """A schema made ready; immutable, and shared."""

    def __init__(self, schema: str) -> None:
        """Compile the JSON text of a schema; `ValueError` says what is wrong with it."""
        self._compiled = Draft202012Validator(
            schema, validate_formats=True, offline=True, pattern_options=_PATTERNS, mask="the value"
        )

    def fits(self, properties: Mapping[str, Any]) -> bool:
        """Whether a record may hold these properties."""
        return self._compiled.is_valid(properties)

    def problems(self, properties: Mapping[str, Any]) -> list[FieldProblem]:
        """Return why a record may not hold these properties, each by its path below `properties`; a page at most."""
        if self._compiled.is_valid(properties):
            return []
        found: dict[FieldProblem, None] = {}
        for error in self._compiled.iter_errors(properties):
            found.update(dict.fromkeys(_problems(error)))
            if len(found) >= _MAX_PROBLEMS:
                break
        return list(found)[:_MAX_PROBLEMS]


def validator(schema: Schema) -> Validator:
    """Return the validator of a schema that `problems_of` finds nothing wrong with."""
    return _compiled(json.dumps(schema))


@lru_cache(maxsize=128)
def _compiled(schema: str) -> Validator:
    return Validator(schema)


def problems_of(schema: Schema, *, of_record: bool = True) -> list[FieldProblem]:
    """Return what keeps a schema from being an object's, each by its place below `schema`.

    Unless it is `of_record`, its properties may have any name.
    """
    try:
        text = json.dumps(schema, ensure_ascii=False)
        size = len(text.encode())
    except (ValueError, RecursionError):
        return [FieldProblem("schema", "holds what is no JSON")]
    if size > MAX_BYTES:
        return [FieldProblem("schema", f"may take {MAX_BYTES} bytes at most, and takes {size}")]
    reason = _shape_problem(schema)
    if reason is not None:
        return [FieldProblem("schema", reason)]
    # Before it is compiled, which follows references.
    found = list(_graph_problems(schema))
    return found or _compile_problems(text) or (_name_problems(schema) if of_record else [])


def _compile_problems(text: str) -> list[FieldProblem]:
    try:
        Validator(text)
    except jsonschema_rs.ValidationError as error:
        place = ".".join(("schema", *map(str, error.instance_path)))
        reason = error.message.removeprefix("the value ")
        if isinstance(error.kind, ValidationErrorKind.Format) and error.kind.format == "regex":
            reason = "is no regular expression of linear time: look-around, back-references and huge counts are not"
        return [FieldProblem(place[:_SHOWN], reason[:_SHOWN])]
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return [FieldProblem("schema", str(error)[:_SHOWN])]
    return []


def _shape_problem(schema: Schema) -> str | None:
    """Say what is wrong with the JSON itself, before anything recurses into it."""
    level: list[object] = [schema]
    for _ in range(MAX_DEPTH):
        for part in level:
            if isinstance(part, int | float) and not -MAX_NUMBER < part < MAX_NUMBER:
                return "holds a number of more than 30 digits"
        level = [child for part in level for child in _inside(part)]
        if not level:
            break
    else:
        return f"nests deeper than {MAX_DEPTH} levels"
    if schema.get("type") != "object":
        return 'must be that of an object: give it "type": "object"'
    if schema.get("$schema", DIALECT) not in {DIALECT, f"{DIALECT}#"}:
        return f"must be in the dialect {DIALECT}"
    return None


def _inside(part: object) -> list[object]:
    if isinstance(part, Mapping):
        return list(cast("Mapping[str, object]", part).values())
    return cast("list[object]", part) if isinstance(part, list) else []


def _name_problems(schema: Schema) -> list[FieldProblem]:
    names: list[str] = list(schema.get("properties", {}))
    if len(names) > MAX_PROPERTIES:
        return [FieldProblem("schema.properties", f"may be {MAX_PROPERTIES} at most, and are {len(names)}")]
    return [
        FieldProblem(f"schema.properties.{name[:100]}", reason)
        for name in names
        if (reason := name_problem(name)) is not None
    ][:_MAX_PROBLEMS]


def name_problem(name: str) -> str | None:
    """Say why a property on the top level may not have this name; None where it may."""
    if name in RECORD_FIELDS:
        return "is what every record has beside its properties; give the property another name"
    if not is_step(name):
        return "must have a name of 1 to 100 characters, without dots and control characters, or spaces at its ends"
    return None


def _graph_problems(schema: Schema) -> Iterator[FieldProblem]:
    """Find references that lead out or in a circle, and schemas that unfold into too many."""
    below: dict[str, list[str]] = {}
    open_parts: list[tuple[str, object]] = [("#", schema)]
    refs: dict[str, str] = {}
    patterns = 0
    while open_parts:
        place, part = open_parts.pop()
        below[place] = []
        if not isinstance(part, Mapping):
            continue
        held = cast("Schema", part)
        refused = next((word for word in _REFUSED if word in held), None)
        if refused is not None or ("$id" in held and place != "#"):
            yield FieldProblem(_shown(place), f"may not use {refused or '$id'}")
            return
        patterns += ("pattern" in held) + len(_inside(held.get("patternProperties")))
        if isinstance(held.get("$ref"), str):
            refs[place] = unquote(held["$ref"])
        for step, child in _parts(held):
            below[place].append(f"{place}/{step}")
            open_parts.append((f"{place}/{step}", child))
    for place, target in refs.items():
        if target not in below:
            yield FieldProblem(f"{_shown(place)}.$ref", "must name a schema within this one, as in #/$defs/NAME")
            return
        below[place].append(target)
    if patterns > MAX_PATTERNS:
        yield FieldProblem("schema", f"may have {MAX_PATTERNS} patterns at most")
        return
    yield from _size_problems(below)


def _size_problems(below: dict[str, list[str]]) -> Iterator[FieldProblem]:
    above: dict[str, list[str]] = {place: [] for place in below}
    waiting = {place: len(children) for place, children in below.items()}
    for place, children in below.items():
        for child in children:
            above[child].append(place)
    sizes: dict[str, int] = {}
    ready = [place for place, count in waiting.items() if count == 0]
    while ready:
        place = ready.pop()
        sizes[place] = 1 + sum(sizes[child] for child in below[place])
        for user in above[place]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if len(sizes) < len(below):
        yield FieldProblem(
            _shown(_in_circle({place: below[place] for place in below if place not in sizes})),
            "refers to itself; say how deep it may go by naming each level",
        )
    elif sizes["#"] > MAX_PARTS:
        yield FieldProblem("schema", f"unfolds into {sizes['#']} schemas; {MAX_PARTS} at most may apply to a record")


def _in_circle(below: Mapping[str, list[str]]) -> str:
    """Return the first place of a circle, given places of which each leads to another of them."""
    walked: list[str] = []
    place = next(iter(below))
    while place not in walked:
        walked.append(place)
        place = next(child for child in below[place] if child in below)
    return min(walked[walked.index(place) :], key=lambda one: (len(one), one))


def _parts(schema: Schema) -> Iterator[tuple[str, object]]:
    # Not checked yet: what is of the wrong type the meta-schema refuses later.
    for word in _ONE:
        if word in schema:
            yield word, schema[word]
    for word in _LIST:
        if isinstance(schema.get(word), list):
            for index, child in enumerate(schema[word]):
                yield f"{word}/{index}", child
    for word in _MAP:
        if isinstance(schema.get(word), Mapping):
            for name, child in schema[word].items():
                yield f"{word}/{name.replace('~', '~0').replace('/', '~1')}", child


def _shown(place: str) -> str:
    return place.replace("#", "schema", 1).replace("/", ".").replace("~1", "/").replace("~0", "~")[:_SHOWN]


def _problems(error: jsonschema_rs.ValidationError) -> list[FieldProblem]:
    at = ".".join(("properties", *map(str, error.instance_path)))
    match error.kind:
        case ValidationErrorKind.Required(name):
            found = [(f"{at}.{name}", "is required")]
        case ValidationErrorKind.AdditionalProperties(names) | ValidationErrorKind.UnevaluatedProperties(names):
            found = [(f"{at}.{name}", "is not a property of this object") for name in names]
        case ValidationErrorKind.Type(types):
            found = [(at, f"must be {' or '.join(map(_a, types))}")]
        case ValidationErrorKind.Enum(options):
            found = [(at, f"must be one of {json.dumps(options, ensure_ascii=False)[1:-1]}")]
        case ValidationErrorKind.Format(wanted):
            found = [(at, f"must have the format {wanted}")]
        case ValidationErrorKind.Pattern(pattern):
            found = [(at, f"must match the pattern {pattern}")]
        case _:
            found = [(at, error.message.removeprefix("the value "))]
    return [FieldProblem(field[:_SHOWN], reason[:_SHOWN]) for field, reason in found]


def _a(kind: str) -> str:
    return {"integer": "an integer", "object": "an object", "array": "a list", "null": "null"}.get(kind, f"a {kind}")
