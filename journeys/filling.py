"""JSON values whose texts may have places for fields: `{"plan": "{{ person.attributes.plan }}"}`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import JsonValue, PlainSerializer, PlainValidator, WithJsonSchema

from journeys.conditions import FieldPath
from journeys.literals import MAX_TEXT, storable
from journeys.texts import PlacedText

_BRACES: Final = ("{{", "}}", "{%")


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value, and the texts in it that have places, as a walk through it meets them."""

    value: JsonValue
    texts: tuple[PlacedText, ...]

    @classmethod
    def parse(cls, value: object) -> "Template":
        """Read a JSON value; `ValueError` says what is wrong with it."""
        storable(value)
        texts = tuple(PlacedText.parse(text, most=MAX_TEXT) for text in _texts(value) if _has_places(text))
        return cls(cast("JsonValue", value), texts)

    @property
    def fields(self) -> tuple[FieldPath, ...]:
        """The fields that it has places for."""
        return tuple(path for text in self.texts for path in text.fields)

    def filled(self, given: Iterator[Any]) -> Any:  # noqa: ANN401 - JSON
        """Return the value with the next of `given` for each text that has places; None stands for a missing one."""
        return _filled(self.value, given)


def sole_field(text: PlacedText) -> FieldPath | None:
    """Return the field that is all of a text: its place is taken by the value itself, whatever its type."""
    match text.parts:
        case (FieldPath() as path,):
            return path
        case _:
            return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in cast("Mapping[str, object]", value).values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in cast("list[object]", value):
            yield from _texts(part)


def _has_places(text: str) -> bool:
    return any(brace in text for brace in _BRACES)


def _filled(value: object, given: Iterator[Any]) -> object:
    if isinstance(value, str):
        return next(given) if _has_places(value) else value
    if isinstance(value, Mapping):
        return {name: _filled(part, given) for name, part in cast("Mapping[str, object]", value).items()}
    if isinstance(value, list):
        return [_filled(part, given) for part in cast("list[object]", value)]
    return value


def _read(value: Any) -> Template:  # noqa: ANN401 - whatever JSON holds
    return value if isinstance(value, Template) else Template.parse(value)


def _written(template: Template) -> JsonValue:
    return template.value


Filled = Annotated[
    Template,
    PlainValidator(_read),
    PlainSerializer(_written, return_type=JsonValue),
    WithJsonSchema({"description": "JSON; texts in it may have places for fields, as in {{ entry.cart_id }}"}),
]
