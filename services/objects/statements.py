"""The statements that lists of records are read by: in the order of the list, and by what indexes find."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    Subquery,
    Table,
    Text,
    Uuid,
    bindparam,
    column,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import BigInteger, Boolean

from journeys.conditions import Condition
from models import ObjectDefinition, Record, RecordValue
from services.objects.values import Range
from services.shared.conditions_sql import Scope, compile_condition

_MOMENT: Final = DateTime(timezone=True)
_DEFINITION: Final[Table] = ObjectDefinition.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
_RECORD: Final[Table] = Record.__table__  # pyright: ignore[reportAssignmentType]
_VALUE: Final[Table] = RecordValue.__table__  # pyright: ignore[reportAssignmentType]
_COLUMNS: Final = ("id", "properties", "version", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of records."""

    by: str
    """`id`, `created_at`, `updated_at`, or `value`."""
    property: str | None
    """Whose value."""
    descending: bool


@dataclass(frozen=True, slots=True)
class List:
    """Which records, in which order."""

    tenant_id: UUID
    object_id: UUID
    key: str
    """The object's."""
    condition: Condition | None
    sort: Sort
    phases: Sequence[Range]
    """The values that are read one after the other; where sorted by a column there is one that says nothing."""

    @property
    def tenant(self) -> BindParameter[UUID]:
        """The tenant, as every statement binds it."""
        return bindparam("tenant", self.tenant_id, Uuid)

    @property
    def object(self) -> BindParameter[UUID]:
        """The object."""
        return bindparam("object", self.object_id, Uuid)

    def holds(self, row: FromClause) -> ColumnElement[bool]:
        """Return whether the filter lets a record through."""
        if self.condition is None:
            return true()
        return compile_condition(self.condition, Scope(tenant_id=self.tenant_id, rows={f"record:{self.key}": row}))


def walk(asked: List, phase: int, step: int, *, behind: bool) -> Select[Any]:
    """Return the statement that looks at up to `step` records and returns those that the filter lets through.

    To be given: `limit`, and with `behind` also `after_value` and `after_id`.
    """
    seen = _in_order(asked, phase, behind=behind).limit(literal_column(str(step))).subquery("w")
    found = (
        select(seen)
        .where(asked.holds(seen))
        .order_by(*_order(asked.sort, seen))
        .limit(bindparam("limit", type_=BigInteger))
        .subquery("f")
    )
    return _with_version(asked, found, true()).order_by(*_order(asked.sort, found))


def last(asked: List, phase: int, step: int, *, behind: bool) -> Select[Any]:
    """Return the statement that returns the last of the `step` records that `walk` looks at, where it saw so many."""
    seen = _in_order(asked, phase, behind=behind, properties=False)
    return seen.offset(literal_column(str(step - 1))).limit(literal_column("1"))


def narrowed(asked: List, contained: Mapping[str, Any], ranges: Mapping[str, Range]) -> Select[Any]:
    """Return the statement that reads what indexes find, and which of it the filter lets through.

    Of what it does not, only the last is returned: the next page goes on behind it. To be given: `sort_low`,
    `sort_high`, `after_value`, `after_id`, `size` (how many to look at) and `limit` (how many to return).
    """
    lying = sorted(ranges.items())
    row = (
        func.tl_records(
            asked.tenant,
            asked.object,
            sql_cast(bindparam("contained", json.dumps(contained) if contained else None, Text), JSONB),
            bindparam("range_properties", [name for name, _ in lying], ARRAY(Text)),
            bindparam("range_lows", [one.low for _, one in lying], ARRAY(Text)),
            bindparam("range_highs", [one.high for _, one in lying], ARRAY(Text)),
            bindparam("sorted_by", asked.sort.by, Text),
            bindparam("sort_property", asked.sort.property, Text),
            bindparam("sort_low", type_=Text),
            bindparam("sort_high", type_=Text),
            bindparam("descending", asked.sort.descending, Boolean),
            bindparam("after_value", type_=Text),
            bindparam("after_id", type_=Uuid),
            bindparam("size", type_=BigInteger),
        )
        .table_valued(
            column("id", Uuid),
            column("properties", JSONB),
            column("version", Integer),
            column("created_at", _MOMENT),
            column("updated_at", _MOMENT),
            column("value", Text),
            column("total", BigInteger),
            with_ordinality="place",
        )
        .render_derived("r")
    )
    found = select(row, asked.holds(row).label("holds"), func.count().over().label("number")).subquery("f")
    return (
        _with_version(asked, found, or_(found.c.holds, found.c.place == found.c.number))
        .order_by(found.c.place)
        .limit(bindparam("limit", type_=BigInteger))
    )


def _in_order(asked: List, phase: int, *, behind: bool, properties: bool = True) -> Select[Any]:
    row, sort = _RECORD.alias("r"), asked.sort
    columns = [row.c[name] for name in _COLUMNS if properties or name != "properties"]
    keys: list[ColumnElement[Any]]
    if sort.by == "value":
        held = _VALUE.alias("v")
        keys = [held.c.value, held.c.record_id]
        # Only where they stand in the statement does Postgres see how much lies between.
        low, high = asked.phases[phase].low, asked.phases[phase].high
        wanted = (
            select(*columns, held.c.value.label("value"))
            .join_from(held, row, row.c.id == held.c.record_id)
            .where(
                held.c.tenant_id == asked.tenant,
                held.c.object_id == asked.object,
                held.c.property == _quoted(sort.property or ""),
                held.c.value >= _quoted(low),
                held.c.value < _quoted(high),
                row.c.tenant_id == asked.tenant,
            )
        )
    else:
        keys = [row.c.id] if sort.by == "id" else [row.c[sort.by], row.c.id]
        wanted = select(*columns, null().label("value")).where(
            row.c.tenant_id == asked.tenant, row.c.object_id == asked.object
        )
    if behind:
        wanted = wanted.where(_behind(sort, keys))
    return wanted.order_by(*(key.desc() if sort.descending else key.asc() for key in keys))


def _behind(sort: Sort, keys: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    given: list[ColumnElement[Any]] = [bindparam("after_id", type_=Uuid)]
    if len(keys) > 1:
        given = [bindparam("after_value", type_=Text if sort.by == "value" else _MOMENT), *given]
    ours, theirs = (keys[0], given[0]) if len(keys) == 1 else (tuple_(*keys), tuple_(*given))
    return ours < theirs if sort.descending else ours > theirs


def _order(sort: Sort, row: FromClause) -> list[ColumnElement[Any]]:
    keys = [row.c.id] if sort.by == "id" else [row.c[sort.by], row.c.id]
    return [key.desc() if sort.descending else key.asc() for key in keys]


def _with_version(asked: List, found: Subquery, wanted: ColumnElement[bool]) -> Select[Any]:
    """Return what is found beside the version that the definition has now; that stands alone where nothing is."""
    definition = _DEFINITION.alias("d")
    return (
        select(definition.c.version.label("current"), found)
        .select_from(definition.outerjoin(found, wanted))
        .where(definition.c.tenant_id == asked.tenant, definition.c.id == asked.object)
    )


def _quoted(value: str) -> ColumnElement[str]:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return literal_column(f"E'{escaped}'", Text)
