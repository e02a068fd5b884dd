"""What a filter and an order of records become: a statement, made ready once for each state of a definition."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Protocol
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import ColumnElement, DateTime, Integer, Table, Text, Uuid, bindparam, column, func, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import BigInteger, Boolean

from core.errors import InvalidError, NotFoundError
from journeys.conditions import Condition
from models import ObjectDefinition
from services.objects import filters
from services.objects.entries import Kept, kept_of
from services.objects.narrowing import Known, Narrowed, narrow
from services.objects.shapes import shape_of
from services.objects.values import NOTHING, Range, after
from services.shared.conditions_sql import Scope, compile_condition
from services.shared.prepared import Prepared, prepare

BY_COLUMN: Final = ("id", "created_at", "updated_at")
"""What records can be sorted by beside their indexed properties."""

_VALUES: Final = Range("", NOTHING)
_NO_VALUE: Final = Range(NOTHING, after(NOTHING))
_MOMENT: Final = DateTime(timezone=True)
_DEFINITION: Final[Table] = ObjectDefinition.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
_FIND: Final = """
    SELECT d.id, d.key, d.version, d.has_misfits, d.schema, d.unique_properties, d.indexed_properties
    FROM object_definition d WHERE d.tenant_id = $1 AND (d.key = $2 OR d.id = $3) ORDER BY d.key = $2 DESC LIMIT 1
"""
_KEPT_PLANS: Final = 1_000


class Connection(Protocol):
    """What is needed of an asyncpg connection whose tenant is set."""

    async def fetch(self, query: str, /, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Run a statement and return its rows."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for; the same is planned once."""

    tenant_id: UUID
    object_key: str
    """The key, or the id."""
    filter_text: str | None
    sort: str
    day: date
    """Some filters become a range that moves with time."""


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of records."""

    by: str
    """One of `BY_COLUMN`, or `value`."""
    property: str | None
    """Whose value."""
    descending: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A filter and an order, made ready for one state of a definition."""

    object_id: UUID
    key: str
    version: int
    sort: Sort
    whole: bool
    """Whether the indexes answer the whole filter."""
    phases: Sequence[Range]
    """The values that are read one after the other; where sorted by a column there is one that says nothing."""
    statement: Prepared


@dataclass(slots=True)
class Plans:
    """The plans made last."""

    _kept: dict[Asked, Plan] = field(default_factory=dict[Asked, Plan])

    async def get(self, connection: Connection, asked: Asked) -> Plan:
        """Return a plan, made now where there is none.

        Raises:
            NotFoundError: no such object in this tenant.
            InvalidError: the filter means nothing, or the order is none that an index has.
        """
        plan = self._kept.pop(asked, None) or await make(connection, asked)
        while len(self._kept) >= _KEPT_PLANS:
            self._kept.pop(next(iter(self._kept)))
        self._kept[asked] = plan
        return plan

    def forget(self, asked: Asked) -> None:
        """Have it made anew: the definition has changed."""
        self._kept.pop(asked, None)


async def make(connection: Connection, asked: Asked) -> Plan:
    """Return the plan of what somebody asks.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: the filter means nothing, or the order is none that an index has.
    """
    rows = await connection.fetch(_FIND, asked.tenant_id, asked.object_key, _as_id(asked.object_key))
    if not rows:
        raise NotFoundError("No such object.")
    (row,) = rows
    key, schema = row["key"], from_json(row["schema"])
    shape = shape_of(row["id"], schema)
    kept = {one.property: one for one in kept_of(schema, row["unique_properties"], row["indexed_properties"])}
    sort = _sort(asked.sort, kept)
    condition = None
    if asked.filter_text is not None:
        condition = filters.parse(asked.filter_text)
        filters.check(condition, key, shape)
    narrowed = narrow(condition, Known(types=shape.properties, kept=kept, has_misfits=row["has_misfits"]))
    phases = _phases(sort, narrowed)
    statement = _statement(asked.tenant_id, row["id"], key, condition, narrowed, sort)
    return Plan(row["id"], key, row["version"], sort, narrowed.whole, phases, statement)


def _as_id(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


def _sort(text: str, kept: Mapping[str, Kept]) -> Sort:
    indexed = {name for name, one in kept.items() if one.indexed}
    name, descending = text, False
    if text not in indexed and text.startswith("-"):
        name, descending = text[1:], True
    if name in BY_COLUMN:
        return Sort(name, None, descending)
    if name not in indexed:
        can = ", ".join([*BY_COLUMN, *sorted(indexed)])
        raise InvalidError.of(
            "sort", f"{name[:100]} is not an indexed property; add it to `indexed` of the object, or sort by {can}"
        )
    return Sort("value", name, descending)


def _phases(sort: Sort, narrowed: Narrowed) -> Sequence[Range]:
    """Return what is to be read; of the property that is sorted by, its range needs no asking for beside."""
    if sort.property is None:
        return [_VALUES]
    lying = narrowed.ranges.pop(sort.property, None)
    # Who has no value comes last, whichever way.
    return [_VALUES, _NO_VALUE] if lying is None else [lying]


def _statement(
    tenant_id: UUID, object_id: UUID, key: str, condition: Condition | None, narrowed: Narrowed, sort: Sort
) -> Prepared:
    ranges = sorted(narrowed.ranges.items())
    tenant, of_object = bindparam("tenant", tenant_id, Uuid), bindparam("object", object_id, Uuid)
    row = _records(
        tenant,
        of_object,
        bindparam("contained", json.dumps(narrowed.contained) if narrowed.contained else None, Text).cast(JSONB),
        bindparam("range_properties", [name for name, _ in ranges], ARRAY(Text)),
        bindparam("range_lows", [one.low for _, one in ranges], ARRAY(Text)),
        bindparam("range_highs", [one.high for _, one in ranges], ARRAY(Text)),
        bindparam("sorted_by", sort.by, Text),
        bindparam("sort_property", sort.property, Text),
        bindparam("sort_low", type_=Text),
        bindparam("sort_high", type_=Text),
        bindparam("descending", sort.descending, Boolean),
        bindparam("after_value", type_=Text),
        bindparam("after_id", type_=Uuid),
        bindparam("size", type_=BigInteger),
    )
    holds = (
        true()
        if condition is None
        else compile_condition(condition, Scope(tenant_id=tenant_id, rows={f"record:{key}": row}))
    )
    found = select(row, holds.label("holds"), func.count().over().label("number")).subquery("f")
    definition = _DEFINITION.alias("d")
    shown = (
        select(definition.c.version.label("current"), found)
        .select_from(definition.outerjoin(found, or_(found.c.holds, found.c.place == found.c.number)))
        .where(definition.c.tenant_id == tenant, definition.c.id == of_object)
        .order_by(found.c.place)
        .limit(bindparam("limit", type_=BigInteger))
    )
    return prepare(shown)


def _records(*arguments: ColumnElement[Any]) -> TableValuedAlias:
    return (
        func.tl_records(*arguments)
        .table_valued(
            column("id", Uuid),
            column("properties", JSONB),
            column("version", Integer),
            column("created_at", _MOMENT),
            column("updated_at", _MOMENT),
            column("value", Text),
            with_ordinality="place",
        )
        .render_derived("r")
    )
