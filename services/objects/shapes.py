"""What conditions may ask of an object's records: its properties, with the types that the schema gives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote
from uuid import UUID

from journeys.attributes import Defined
from services.objects.schemas import Schema
from services.shared.related import RECORD_FIELDS

SCALARS: Final = frozenset({"string", "number", "integer", "boolean"})

_MAX_REFERENCES: Final = 20


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """An object as conditions know it."""

    object_id: UUID
    properties: Mapping[str, Defined | None]
    """Those on the top level, each with what it holds; None where the schema does not say, or says several things."""
    nested: frozenset[str]
    """Of these, those that a path may lead into."""

    @property
    def names(self) -> frozenset[str]:
        """The fields, as a vocabulary of conditions has them."""
        return frozenset({*self.properties, *RECORD_FIELDS, *(f"{name}.*" for name in self.nested)})

    def typed(self, key: str) -> dict[str, Defined]:
        """Return what the fields hold, by path, where it is known; `key` is the object's."""
        held = {name: defined for name, defined in self.properties.items() if defined is not None} | dict(RECORD_FIELDS)
        return {f"record:{key}.{name}": defined for name, defined in held.items()}


def shape_of(object_id: UUID, schema: Schema) -> ObjectShape:
    """Return the shape of an object with this schema."""
    parts: dict[str, object] = schema.get("properties", {})
    return ObjectShape(
        object_id,
        shape_of_properties(schema),
        frozenset(name for name, part in parts.items() if _may_be_object(resolved(schema, part))),
    )


def shape_of_properties(schema: Schema) -> dict[str, Defined | None]:
    """Return the properties on the top level, each with what it holds where the schema says one thing."""
    return {name: _defined(resolved(schema, part)) for name, part in schema.get("properties", {}).items()}


def kinds_of(schema: Schema, name: str) -> frozenset[str]:
    """Return the JSON types that a property on the top level may have; nothing where the schema leaves it open."""
    return json_types(resolved(schema, schema.get("properties", {}).get(name, {})))


def _may_be_object(part: Schema) -> bool:
    kinds = json_types(part)
    return not kinds or "object" in kinds


def resolved(schema: Schema, part: object) -> Schema:
    """Return a property's schema, references followed; what is said beside a reference counts too."""
    held: dict[str, Any] = {}
    for _ in range(_MAX_REFERENCES):
        if not isinstance(part, Mapping):
            break
        held = dict(cast("Schema", part)) | held
        target = held.pop("$ref", None)
        if not isinstance(target, str):
            break
        part = _at(schema, target)
    return held


def _at(schema: Schema, pointer: str) -> object:
    here: Any = schema
    for step in unquote(pointer).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list):
            items = cast("list[object]", here)
            here = items[int(name)] if name.isdecimal() and int(name) < len(items) else None
        else:
            here = cast("Schema", here).get(name) if isinstance(here, Mapping) else None
    return cast("object", here)


def json_types(part: Schema) -> frozenset[str]:
    """Return the JSON types that a part of a schema allows, references followed; nothing where it leaves them open."""
    given = part.get("type")
    if isinstance(given, str):
        return frozenset({given})
    if isinstance(given, list):
        return frozenset(cast("list[str]", given))
    choices = part.get("enum", [part["const"]] if "const" in part else [])
    return frozenset(_kind(choice) for choice in choices)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _defined(part: Schema) -> Defined | None:
    kinds = set(json_types(part)) - {"null"}
    if kinds and kinds <= {"number", "integer"}:
        return Defined("number")
    if kinds == {"boolean"}:
        return Defined("boolean")
    if kinds == {"string"}:
        return _text(part)
    if kinds == {"array"} and isinstance(part.get("items"), Mapping):
        items = cast("Schema", part["items"])
        return Defined("list", _choices(items)) if set(json_types(items)) == {"string"} else None
    return None


def _text(part: Schema) -> Defined:
    choices = _choices(part)
    if choices is not None:
        return Defined("choice", choices)
    match part.get("format"):
        case "date":
            return Defined("date")
        case "date-time":
            return Defined("datetime")
        case _:
            return Defined("text")


def _choices(part: Schema) -> tuple[str, ...] | None:
    given = part.get("enum", [part["const"]] if "const" in part else None)
    if given is None:
        return None
    return tuple(choice for choice in cast("list[object]", given) if isinstance(choice, str))
