"""What the catalogue says of a type of event, and the few shapes that properties are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from contracts.events import is_reserved
from core.domains import Domain

Schema = Mapping[str, Any]
"""JSON Schema, 2020-12."""

Writer = Literal["platform", "clients"]

TEXT: Final[Schema] = {"type": "string"}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
URL: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
AMOUNT: Final[Schema] = {
    "type": "string",
    "pattern": r"^-?[0-9]+(\.[0-9]+)?$",
    "description": "In units of the currency, as in 12.50.",
}
CURRENCY: Final[Schema] = {"type": "string", "pattern": "^[A-Z]{3}$", "description": "A code of ISO 4217."}
CHANNEL: Final[Schema] = {"enum": ["email", "sms", "push", "social"]}
ANY_OBJECT: Final[Schema] = {"type": "object"}


def one_of(*values: str) -> Schema:
    """Return the schema of one of these texts."""
    return {"enum": list(values)}


def nullable(schema: Schema) -> Schema:
    """Return the schema of what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: Schema, description: str | None = None) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema} | ({} if description is None else {"description": description})


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object; others may be added to it one day, so it is open."""
    schema: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}}
    return schema | ({"required": list(required)} if required else {})


FIELDS: Final = listed(TEXT, "The names of what changed.")
ITEMS: Final = listed(obj({"sku": TEXT, "name": TEXT, "quantity": NUMBER, "unit": AMOUNT}))
"""Pieces of an order or cart; `unit` is the price of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """A type of event that the platform writes or knows the meaning of."""

    type: str
    description: str
    domain: Domain
    subjects: tuple[str, ...] = ("person",)
    """What it may be about."""
    platform: Schema | None = None
    """The properties of an event that the platform writes; None where only clients write it."""
    clients: Schema = field(default_factory=lambda: ANY_OBJECT)
    """What is asked of the properties of an event that a client sends, where clients may send the type."""
    example: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Properties."""

    @property
    def written_by(self) -> tuple[Writer, ...]:
        """Who writes such events."""
        writers: tuple[tuple[Writer, bool], ...] = (
            ("platform", self.platform is not None),
            ("clients", not is_reserved(self.type)),
        )
        return tuple(writer for writer, writes in writers if writes)

    @property
    def schema(self) -> Schema:
        """Return the schema that the properties of every event of the type fit, whoever wrote it."""
        return self.clients if self.platform is None or "clients" in self.written_by else self.platform


def closed(schema: object) -> Any:  # noqa: ANN401 - a JSON Schema, or a part of one
    """Return the schema with every object held to the properties it names, as tests hold our own events."""
    if isinstance(schema, list):
        return [closed(part) for part in cast("list[object]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    parts = {name: closed(part) for name, part in cast("Mapping[str, object]", schema).items()}
    return parts | {"additionalProperties": False} if "properties" in parts else parts
