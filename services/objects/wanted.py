"""What a tenant wants an object to be, before it is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.errors import FieldProblem, InvalidError
from services.objects.entries import Kept, kept_of
from services.objects.schemas import Schema, problems_of
from services.objects.shapes import SCALARS, kinds_of

MAX_UNIQUE: Final = 5
MAX_INDEXED: Final = 20
"""Each is a row more for every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All of a definition that can change."""

    name: str
    description: str | None = None
    schema: Schema
    unique: Sequence[str] = ()
    indexed: Sequence[str] = ()
    label_property: str | None = None

    def check(self) -> None:
        """Check that there can be such records.

        Raises:
            InvalidError: naming every field at fault.
        """
        problems = problems_of(self.schema)
        if not problems:
            problems += self._list_problems("unique", self.unique, MAX_UNIQUE)
            problems += self._list_problems("indexed", self.indexed, MAX_INDEXED)
            if self.label_property is not None:
                reason = self._property_problem(self.label_property)
                problems += [FieldProblem("label_property", reason)] if reason else []
        if problems:
            raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)

    def columns(self) -> Mapping[str, Any]:
        """Return the columns as they are to be."""
        return {
            "name": self.name,
            "description": self.description,
            "schema": dict(self.schema),
            "unique_properties": list(self.unique),
            "indexed_properties": list(self.indexed),
            "label_property": self.label_property,
        }

    def kept(self) -> tuple[Kept, ...]:
        """Return the properties whose values are kept beside the records."""
        return kept_of(self.schema, self.unique, self.indexed)

    def _list_problems(self, field: str, names: Sequence[str], limit: int) -> list[FieldProblem]:
        if len(names) > limit or len(set(names)) < len(names):
            return [FieldProblem(field, f"may name {limit} properties at most, each once")]
        reasons = ((index, self._property_problem(name)) for index, name in enumerate(names))
        return [FieldProblem(f"{field}.{index}", reason) for index, reason in reasons if reason]

    def _property_problem(self, name: str) -> str | None:
        properties: Mapping[str, object] = self.schema.get("properties", {})
        if name not in properties:
            return f"{name[:100]} is not a property on the top level of the schema"
        kinds = kinds_of(self.schema, name) - {"null"}
        if not kinds or not kinds <= SCALARS:
            return f"{name} must be a string, number, integer or boolean by the schema; it may be null too"
        return None
