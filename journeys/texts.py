"""Plain texts with places for fields: `Call {{ person.first_name }}`. No logic, so a set of them is one expression."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from journeys.conditions import FieldPath
from journeys.literals import storable

MAX_TITLE: Final = 200
MAX_NOTE: Final = 2_000

_PLACE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text, and what it is made of."""

    text: str
    parts: tuple[str | FieldPath, ...]

    @classmethod
    def parse(cls, text: str, *, most: int) -> "PlacedText":
        """Read a text; `ValueError` says what is wrong with it."""
        if not text.strip() or len(text) > most or _CONTROL.search(text):
            raise ValueError(f"must be 1 to {most} printable characters")
        storable(text)
        parts: list[str | FieldPath] = []
        at = 0
        for place in _PLACE.finditer(text):
            parts += [text[at : place.start()], FieldPath.parse(place[1])]
            at = place.end()
        parts.append(text[at:])
        if any(isinstance(part, str) and any(brace in part for brace in ("{{", "}}", "{%")) for part in parts):
            raise ValueError("only fields can stand in double braces, as in {{ person.first_name }}")
        return cls(text, tuple(part for part in parts if part))

    @property
    def fields(self) -> tuple[FieldPath, ...]:
        """The fields it has places for."""
        return tuple(part for part in self.parts if isinstance(part, FieldPath))

    def __str__(self) -> str:
        return self.text


def _placed(most: int) -> PlainValidator:
    def read(value: Any) -> PlacedText:  # noqa: ANN401 - whatever JSON holds
        if isinstance(value, PlacedText):
            return value
        if not isinstance(value, str):
            raise ValueError("must be a string")  # noqa: TRY004 - only a ValueError becomes a validation error
        return PlacedText.parse(value, most=most)

    return PlainValidator(read)


_TEXT: Final = PlainSerializer(str, return_type=str)

Title = Annotated[
    PlacedText,
    _placed(MAX_TITLE),
    _TEXT,
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TITLE, "examples": ["Call {{ deal.title }}"]}),
]
"""One line, cut to `MAX_TITLE` characters once it is filled in."""
Note = Annotated[
    PlacedText, _placed(MAX_NOTE), _TEXT, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NOTE})
]
"""Some lines, cut to `MAX_NOTE` characters once they are filled in."""
