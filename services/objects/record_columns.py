"""What a row of a file says of a record: columns mapped to properties, their texts to values by the schema's types."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

from core.errors import FieldProblem, InvalidError
from services.identity.import_cells import Cells
from services.identity.import_mapping import json_value
from services.identity.import_presets import REJECTED
from services.objects.schemas import Schema, name_problem
from services.objects.shapes import kinds_of

ID: Final = "id"
JSON: Final = ":json"
"""Behind a property's name: its cells hold JSON."""
COMPUTED: Final = frozenset({"object", "version", "created_at", "updated_at"})
"""Members of an exported record that the platform itself says."""

STAMPS: Final = ("created_at", "updated_at")
"""Columns of an export that the platform itself says."""

_YES: Final = frozenset({"true", "t", "yes", "y", "1", "on", "x"})
_NO: Final = frozenset({"false", "f", "no", "n", "0", "off"})
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_LONGEST_NUMBER: Final = 400


@dataclass(slots=True)
class RecordRow:
    """What one row says."""

    line: int
    id: UUID | None = None
    """Of an exported record: it means that one, if it is there."""
    properties: dict[str, Any] = field(default_factory=dict[str, Any])
    links: dict[int, str] = field(default_factory=dict[int, str])
    """By the place of an option `associate`: what its column has."""

    def complete(self) -> "RecordRow":
        """Check that the row says something.

        Raises:
            InvalidError: it does not.
        """
        if not self.properties and self.id is None:
            raise InvalidError.of("properties", "are all empty")
        return self


Setter = Callable[[RecordRow, str], None]
"""Takes a cell that is not empty."""


class Columns:
    """A mapping made ready for a CSV file's rows."""

    def __init__(
        self, columns: Sequence[str], mapping: Mapping[str, str | None], schema: Schema, linked: Sequence[str]
    ) -> None:
        """Prepare to read rows of these columns; `linked` are those of the options `associate`, in their order.

        Raises:
            InvalidError: a column is not there, or its target is no property of such records.
        """
        problems = [
            FieldProblem(f"options.associate.{number}.column", "is not a column of the file")
            for number, name in enumerate(linked)
            if name not in columns
        ]
        self._cells: Cells[Setter] = Cells(columns, mapping, lambda target: setter(target, schema), problems)
        for number, name in enumerate(linked):
            self._cells.add(columns.index(name), partial(_put_link, number))

    def row(self, line: int, cells: Sequence[str]) -> RecordRow:
        """Return what the row says; an empty cell says nothing.

        Raises:
            InvalidError: naming the property whose cell is not acceptable.
        """
        row = RecordRow(line)
        for put, text in self._cells.of(cells):
            put(row, text)
        return row.complete()


class Items:
    """Reads the objects of an NDJSON file: each as `GET .../records/{id}` answers it, or only its `properties`."""

    def __init__(self, linked: Sequence[str]) -> None:
        """Prepare to read; `linked` are the members of the options `associate`, in their order."""
        self._linked: dict[str, list[int]] = {}
        for number, name in enumerate(linked):
            self._linked.setdefault(name, []).append(number)

    def row(self, line: int, item: Mapping[str, Any]) -> RecordRow:
        """Return what the object says; null is the same as absent.

        Raises:
            InvalidError: naming the member that is not acceptable.
        """
        row = RecordRow(line)
        for name, value in item.items():
            if name in self._linked:
                for number in self._linked[name] if value is not None else ():
                    _put_link(number, row, _text(value, name))
            elif value is None or name in COMPUTED:
                continue
            elif name == ID:
                _put_id(row, _text(value, ID))
            elif name == "properties":
                if not isinstance(value, dict):
                    raise InvalidError.of("properties", "must be an object")
                row.properties = cast("dict[str, Any]", value)
            else:
                raise InvalidError.of(name[:100], "is not a known field; a record's own stand in `properties`")
        return row.complete()


def is_export(columns: Sequence[str]) -> bool:
    """Whether these are the columns of an export of records."""
    return {ID, *STAMPS} <= set(columns)


def proposed(columns: Sequence[str], schema: Schema) -> dict[str, str | None]:
    """Return a target for every column: what is called so, or alike; None where nothing is.

    In an export every column that is no property by the schema is one beside it, where there may be such.
    """
    names: list[str] = list(schema.get("properties", {}))
    alike = {_slug(name): name for name in reversed(names)}
    exported = is_export(columns)
    found: dict[str, str | None] = {}
    for column in columns:
        target = _target(column, names, alike)
        if target is None and exported and _slug(column) not in _UNTAKEN:
            target = _beside(column, schema)
        found[column] = None if target in found.values() else target
    return found


def _target(column: str, names: Sequence[str], alike: Mapping[str, str]) -> str | None:
    name = column.strip()
    plain = name.removesuffix(JSON)
    if name in names or plain in names:
        return name
    if name.lower() == ID:
        return ID
    meant = alike.get(_slug(plain))
    return None if meant is None else meant + name[len(plain) :]


def _beside(column: str, schema: Schema) -> str | None:
    try:
        setter(column, schema)
    except InvalidError:
        return None
    return column


def _slug(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


_UNTAKEN: Final = frozenset(_slug(name) for name in (*STAMPS, *REJECTED))
"""Columns that say nothing of a record, where no property is called so."""


def setter(target: str, schema: Schema) -> tuple[str, Setter]:
    """Return the property that a target means, or `id`, and what puts a cell into it.

    Raises:
        InvalidError: records have no such property.
    """
    if target == ID:
        return ID, _put_id
    properties: Mapping[str, object] = schema.get("properties", {})
    plain = target if target in properties else target.removesuffix(JSON)
    if plain not in properties:
        reason = name_problem(plain)
        if schema.get("additionalProperties", True) is False or reason is not None:
            raise InvalidError.of("mapping", f"{plain[:100]} is not a property of such records")
    convert = _as_json if plain != target else converter(kinds_of(schema, plain))
    return plain, partial(_put_property, plain, convert)


Convert = Callable[[str, str], Any]
"""Takes a text and what to name it in an error."""


def converter(kinds: frozenset[str]) -> Convert:
    """Return what makes values of these JSON types from texts; a property of no or of several types is text."""
    own = set(kinds) - {"null"}
    if own and own <= {"number", "integer"}:
        return _as_number
    if own == {"boolean"}:
        return _as_boolean
    if own == {"array"}:
        return _as_list
    return _as_json if own == {"object"} else _as_text


def is_json(kinds: frozenset[str], held: frozenset[str]) -> bool:
    """Whether a column must hold JSON for its values, of the JSON types `held`, to be read back as they are.

    `plain` among them stands for a text that comes back as it is.
    """
    convert = converter(kinds)
    if convert is _as_number:
        return not held <= {"number"}
    if convert is _as_boolean:
        return not held <= {"boolean"}
    return not held <= {"plain"} if convert is _as_text else True


def _put_id(row: RecordRow, text: str) -> None:
    try:
        row.id = UUID(text)
    except ValueError as error:
        raise InvalidError.of(ID, "is not a UUID") from error


def _put_property(name: str, convert: Convert, row: RecordRow, text: str) -> None:
    row.properties[name] = convert(text, f"properties.{name}")


def _put_link(number: int, row: RecordRow, text: str) -> None:
    row.links[number] = text


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidError.of(name[:100], "must be a text")
    return value


def _as_text(text: str, _target: str) -> str:
    return text


def _as_json(text: str, target: str) -> Any:  # noqa: ANN401 - JSON
    return json_value(text, target)


def _as_number(text: str, target: str) -> int | float:
    if _NUMBER.fullmatch(text) is None or len(text) > _LONGEST_NUMBER:
        raise InvalidError.of(target, "must be a number, as 12 or 12.5")
    if text.lstrip("+-").isdecimal():
        return int(text)
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise InvalidError.of(target, "is too large a number")
    return value


def _as_boolean(text: str, target: str) -> bool:
    word = text.lower()
    if word not in _YES | _NO:
        raise InvalidError.of(target, "must be yes or no, or true or false")
    return word in _YES


def _as_list(text: str, target: str) -> Any:  # noqa: ANN401 - JSON
    """Return a list given as JSON, or as texts parted by commas or semicolons."""
    if text.startswith("["):
        return json_value(text, target)
    try:
        (items,) = csv.reader([" ".join(text.split()).replace(";", ",")], skipinitialspace=True)
    except csv.Error as error:
        raise InvalidError.of(target, "is not a list") from error
    return [item for each in items if (item := each.strip())]
