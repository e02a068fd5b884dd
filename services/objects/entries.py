"""Which values of a record are kept beside it, in `record_value`: of its unique and of its indexed properties."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from services.objects.schemas import Schema
from services.objects.shapes import shape_of_properties
from services.objects.values import NOTHING, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A property whose values are kept."""

    property: str
    unique: bool
    indexed: bool
    dates: bool
    """Whether it sorts by instant."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A row of `record_value`, but for the record's id."""

    property: str
    value: str
    unique: bool


def kept_of(schema: Schema, unique: Collection[str], indexed: Collection[str]) -> tuple[Kept, ...]:
    """Return the properties whose values are kept, given those that are unique and those that are indexed."""
    types = shape_of_properties(schema)
    return tuple(
        Kept(
            property=name,
            unique=name in unique,
            indexed=name in indexed,
            dates=(defined := types.get(name)) is not None and defined.type in {"date", "datetime"},
        )
        for name in sorted({*unique, *indexed})
    )


def entry_of(kept: Kept, value: object) -> Entry | None:
    """Return what is kept of a value; None where nothing is."""
    encoded = NOTHING if value is None else encode(value, dates=kept.dates)
    if encoded == NOTHING:
        # Sorted last by the index too, which must know of it; and any number of records may have nothing.
        return Entry(kept.property, NOTHING, unique=False) if kept.indexed else None
    return Entry(kept.property, encoded, kept.unique)


def entries_of(kept: Collection[Kept], properties: Mapping[str, Any]) -> set[Entry]:
    """Return what is kept of a record."""
    found = (entry_of(one, properties.get(one.property)) for one in kept)
    return {entry for entry in found if entry is not None}
