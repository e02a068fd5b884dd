"""Rows that name a person: moved to the winner of a merge with a journal, and back, as `models.base.OfPerson` rules.

The statements are made from the tables' own metadata, so a table that declares its rule takes part.
"""

import re
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Column, CursorResult, Table, TextClause, bindparam, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import Uuid

from core.database import TenantSession
from services.identity.person_rows import RuledTable, ruled_tables

_DIALECT: Final = postgresql.dialect()

_MOVE: Final = """
WITH old AS (
  SELECT {old} FROM {table} r WHERE {found} FOR UPDATE
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
  DELETE FROM {table} r WHERE {found}
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


def _key(table: Table) -> list[str]:
    """Return the primary key without the tenant."""
    return [column.name for column in table.primary_key if column.name != "tenant_id"]


def _move(each: RuledTable) -> TextClause:
    """Return the statement that moves the rows and journals it."""
    restored = {each.rule.column: ":winner"} | dict(each.rule.moves)
    changed = restored | dict(each.rule.settles)
    key = _key(each.table)
    return _bound(
        _MOVE.format(
            table=each.name,
            found=each.found,
            old=", ".join(f"r.{name}" for name in dict.fromkeys([*key, *restored])),
            assignments=", ".join(f"{name} = {value}" for name, value in changed.items()),
            same=" AND ".join(f"r.{name} = old.{name}" for name in key),
            key=_pairs("r", key),  # as it is from now on
            before=_pairs("old", restored),
            after=_pairs("r", changed),
        )
    )


def _drop(each: RuledTable, found: str | None = None) -> TextClause:
    """Return the statement that deletes the rows, or others, and journals it."""
    return _bound(_DROP.format(table=each.name, found=found or each.found, key=_pairs("r", _key(each.table))))


def _restore(each: RuledTable) -> TextClause:
    """Return the statement that moves journaled rows back which still are the winner's."""
    columns = each.table.columns
    changed = [each.rule.column, *each.rule.moves]
    return _bound(
        _RESTORE.format(
            table=each.name,
            column=each.rule.column,
            assignments=", ".join(f"{name} = {_from_json('before', columns[name])}" for name in changed),
            # a key that names the person names whoever the winner is by now
            same=" AND ".join(
                f"r.{name} = {_from_json('row_key', columns[name])}"
                for name in _key(each.table)
                if name != each.rule.column
            ),
        )
    )


def _pairs(row: str, names: Any) -> str:  # noqa: ANN401 - any iterable of names
    return ", ".join(f"'{name}', {row}.{name}" for name in names)


def _from_json(member: str, column: Column[Any]) -> str:
    kind = str(column.type.compile(_DIALECT))
    if kind.endswith("[]"):
        return f"ARRAY(SELECT jsonb_array_elements_text(j.{member} -> '{column.name}'))::{kind}"
    return f"(j.{member} ->> '{column.name}')::{kind}"


def _bound(statement: str) -> TextClause:
    named = set(re.findall(r"(?<!:):(\w+)", statement))
    names = sorted(named & {"tenant", "person", "winner", "loser", "merge"})
    return text(statement).bindparams(*(bindparam(name, type_=Uuid) for name in names))


def _revive(table: Table) -> TextClause:
    """Return the statement that writes deleted rows again, where whatever they refer to is still there."""
    columns = [column.name for column in table.columns if column.name != "tenant_id" and column.computed is None]
    exists = [
        f"(n.{key.column_keys[1]} IS NULL OR EXISTS (SELECT FROM {key.referred_table.name} f"
        f" WHERE f.tenant_id = :tenant AND f.{key.elements[1].column.name} = n.{key.column_keys[1]}))"
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


_MOVED: Final = [each for each in ruled_tables() if each.rule.merge == "move"]
_DROPPED: Final = [each for each in ruled_tables() if each.rule.merge == "drop"]
_IDENTIFIERS: Final = next(each for each in _MOVED if each.name == "person_identifier")

_DOUBLED: Final = [each for each in _MOVED if each.rule.doubles is not None]

_MERGE: Final = tuple(
    (each.name, statement)
    for each in ruled_tables()
    for statement in (
        *([_drop(each, f"{each.found} AND ({each.rule.doubles})")] if each in _DOUBLED else []),
        *([_move(each)] if each in _MOVED else [_drop(each)] if each in _DROPPED else []),
    )
)
_UNMERGE: Final = (
    *(_restore(each) for each in _MOVED),
    *(_revive(table) for table in dict.fromkeys(each.table for each in (*_DROPPED, *_DOUBLED, _IDENTIFIERS))),
)
_DROP_OLDEST: Final = _drop(
    _IDENTIFIERS,
    """
    r.tenant_id = :tenant AND (r.kind, r.value) IN (
      SELECT kind, value FROM person_identifier
      WHERE tenant_id = :tenant AND person_id IN (:winner, :loser) AND kind = 'anonymous_id'
      ORDER BY created_at DESC, value OFFSET :limit)
    """,
)


async def move(session: TenantSession, *, merge_id: UUID, winner_id: UUID, loser_id: UUID) -> dict[str, int]:
    """Move all rows of the loser to the winner, or drop them, and journal each; return how many, by table.

    Both people are locked, and the loser's rows that others change before they touch the person.
    """
    values = {"tenant": session.tenant_id, "winner": winner_id, "loser": loser_id, "merge": merge_id}
    values["person"] = loser_id
    counts: dict[str, int] = {}
    for table, statement in _MERGE:
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
    for statement in _UNMERGE:
        await session.execute(statement, {name: values[name] for name in statement.compile().params})
