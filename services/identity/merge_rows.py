"""Rows that name a person: moved to the winner of a merge with a journal, and back, by the rules of `models.OfPerson`.

The statements are made from the tables' own metadata, so a table that declares its rule takes part.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Column, CursorResult, Table, TextClause, bindparam, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Uuid

from core.database import TenantSession
from models import Base
from models.base import OF_PERSON, OfPerson

_DIALECT: Final = postgresql.dialect()

_LOCK: Final = "SELECT FROM {table} r WHERE r.tenant_id = :tenant AND {rows} ORDER BY {key} FOR UPDATE"

_MOVE: Final = """
WITH old AS (
  SELECT {old} FROM {table} r WHERE r.tenant_id = :tenant AND {rows} FOR UPDATE
), moved AS (
  UPDATE {table} r SET {assignments} FROM old WHERE r.tenant_id = :tenant AND {same}
  RETURNING jsonb_build_object({key}) AS row_key, jsonb_build_object({before}) AS before,
            jsonb_build_object({after}) AS after
)
INSERT INTO person_merge_row (tenant_id, id, merge_id, table_name, row_key, before, after)
SELECT :tenant AS tenant_id, tl_uuid7(), :merge, '{table}', row_key, before, after FROM moved
"""

_DROP: Final = """
WITH gone AS (
  DELETE FROM {table} r WHERE r.tenant_id = :tenant AND {rows}
  RETURNING jsonb_build_object({key}) AS row_key, to_jsonb(r) AS before
)
INSERT INTO person_merge_row (tenant_id, id, merge_id, table_name, row_key, before)
SELECT :tenant AS tenant_id, tl_uuid7(), :merge, '{table}', row_key, before FROM gone
"""

_RESTORE: Final = """
UPDATE {table} r SET {assignments}
FROM person_merge_row j
WHERE j.tenant_id = :tenant AND j.merge_id = :merge AND j.table_name = '{table}' AND j.after IS NOT NULL
  AND (j.before ->> '{column}') IS NOT NULL
  AND r.tenant_id = :tenant AND {same} AND r.{column} = :winner
"""

_REVIVE: Final = """
INSERT INTO {table} (tenant_id, {columns})
SELECT :tenant AS tenant_id, {values}
FROM person_merge_row j, jsonb_populate_record(NULL::{table}, j.before) n
WHERE j.tenant_id = :tenant AND j.merge_id = :merge AND j.table_name = '{table}' AND j.after IS NULL
  AND {exists}
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class _Ruled:
    """A table, and one of its rules."""

    table: Table
    rule: OfPerson

    @property
    def rows(self) -> str:
        """The predicate of the loser's rows."""
        return (self.rule.rows or f"r.{self.rule.column} = :person").replace(":person", ":loser")

    @property
    def key(self) -> list[str]:
        """The primary key without the tenant."""
        return [name for name in self.table.primary_key.columns.keys() if name != "tenant_id"]  # noqa: SIM118 - a collection of columns, which yields columns

    def move(self) -> TextClause:
        """Return the statement that moves the rows and journals it."""
        restored = {self.rule.column: ":winner"} | dict(self.rule.moves)
        changed = restored | dict(self.rule.settles)
        return _bound(
            _MOVE.format(
                table=self.table.name,
                rows=self.rows,
                # the journal's key is the one that the row has from now on
                old=", ".join(f"r.{name}" for name in dict.fromkeys([*self.key, *restored])),
                assignments=", ".join(f"{name} = {value}" for name, value in changed.items()),
                same=" AND ".join(f"r.{name} = old.{name}" for name in self.key),
                key=_pairs("r", self.key),
                before=_pairs("old", restored),
                after=_pairs("r", changed),
            )
        )

    def drop(self, rows: str | None = None) -> TextClause:
        """Return the statement that deletes the rows, or others, and journals it."""
        return _bound(_DROP.format(table=self.table.name, rows=rows or self.rows, key=_pairs("r", self.key)))

    def restore(self) -> TextClause:
        """Return the statement that moves journaled rows back which still are the winner's."""
        changed = [self.rule.column, *self.rule.moves]
        columns = self.table.columns
        return _bound(
            _RESTORE.format(
                table=self.table.name,
                column=self.rule.column,
                assignments=", ".join(f"{name} = {_from_json('before', columns[name])}" for name in changed),
                same=" AND ".join(f"r.{name} = {_from_json('row_key', columns[name])}" for name in self.key),
            )
        )


def _pairs(row: str, names: Any) -> str:  # noqa: ANN401 - any iterable of names
    return ", ".join(f"'{name}', {row}.{name}" for name in names)


def _from_json(member: str, column: Column[Any]) -> str:
    return f"(j.{member} ->> '{column.name}')::{column.type.compile(_DIALECT)}"


def _bound(statement: str) -> TextClause:
    names = [name for name in ("tenant", "winner", "loser", "merge") if f":{name}" in statement]
    return text(statement).bindparams(*(bindparam(name, type_=Uuid) for name in names))


def _ruled(*kinds: str) -> list[_Ruled]:
    """Return the tables with such rules; those whose rows are found through another table stand before it."""
    found = [
        _Ruled(table, rule)
        for table in Base.metadata.sorted_tables
        for rule in cast("tuple[OfPerson, ...]", table.info.get(OF_PERSON, ()))
        if rule.merge in kinds
    ]
    return sorted(found, key=lambda ruled: ruled.rule.rows is None)


def _locks() -> Iterator[TextClause]:
    """Yield the statements that lock what decides which rows are found, in the order that others lock it in.

    Whoever adds such a row changes the row that it hangs on in the same transaction, so it is seen after.
    """
    for ruled in _ruled("move"):
        through = re.findall(r"\bFROM (\w+)\b", ruled.rule.rows or "")
        for chosen in [ruled, *(other for other in _ruled("move") if other.table.name in through)] if through else []:
            key = ", ".join(f"r.{name}" for name in chosen.key)
            yield _bound(_LOCK.format(table=chosen.table.name, rows=chosen.rows, key=key))


def _revive(table: Table) -> TextClause:
    """Return the statement that writes deleted rows again, where whatever they refer to is still there."""
    columns = [column.name for column in table.columns if column.name != "tenant_id" and column.computed is None]
    exists = [
        f"EXISTS (SELECT FROM {key.referred_table.name} f WHERE f.tenant_id = :tenant"
        f" AND f.id = n.{key.column_keys[1]})"
        for key in table.foreign_key_constraints
        if key.referred_table.name != "tenant"
    ]
    return _bound(
        _REVIVE.format(
            table=table.name,
            columns=", ".join(columns),
            values=", ".join(f"n.{name}" for name in columns),
            exists=" AND ".join(exists) or "true",
        )
    )


_LOCKS: Final = tuple(_locks())
_MOVES: Final = tuple(
    (ruled.table.name, ruled.move() if ruled.rule.merge == "move" else ruled.drop()) for ruled in _ruled("move", "drop")
)
_RESTORES: Final = tuple(ruled.restore() for ruled in _ruled("move"))
_IDENTIFIERS: Final = next(ruled for ruled in _ruled("move") if ruled.table.name == "person_identifier")
_REVIVALS: Final = tuple(
    _revive(table) for table in dict.fromkeys([*(ruled.table for ruled in _ruled("drop")), _IDENTIFIERS.table])
)
_DROP_OLDEST: Final = _IDENTIFIERS.drop("""
    (r.kind, r.value) IN (
      SELECT kind, value FROM person_identifier
      WHERE tenant_id = :tenant AND person_id IN (:winner, :loser) AND kind = 'anonymous_id'
      ORDER BY created_at DESC, value OFFSET :limit)
""")


async def move(session: TenantSession, *, merge_id: UUID, winner_id: UUID, loser_id: UUID) -> dict[str, int]:
    """Move all rows of the loser to the winner, or drop them, and journal each; return how many, by table.

    Both people are locked.
    """
    values = {"tenant": session.tenant_id, "winner": winner_id, "loser": loser_id, "merge": merge_id}
    for statement in _LOCKS:
        await session.execute(statement, values)
    counts: dict[str, int] = {}
    for table, statement in _MOVES:
        written = cast("CursorResult[Any]", await session.execute(statement, values)).rowcount
        if written:
            counts[table] = counts.get(table, 0) + written
    return counts


async def drop_oldest_visitors(
    session: TenantSession, *, merge_id: UUID, winner_id: UUID, loser_id: UUID, limit: int
) -> None:
    """Delete the oldest anonymous ids of both together beyond `limit`, and journal each."""
    values = {"tenant": session.tenant_id, "winner": winner_id, "loser": loser_id, "merge": merge_id, "limit": limit}
    await session.execute(_DROP_OLDEST, values)


async def restore(session: TenantSession, *, merge_id: UUID, winner_id: UUID) -> None:
    """Give the loser, who is there again, what the merge moved or deleted: all that is still the winner's."""
    values = {"tenant": session.tenant_id, "winner": winner_id, "merge": merge_id}
    for statement in (*_RESTORES, *_REVIVALS):
        await session.execute(statement, {name: values[name] for name in statement.compile().params})
