"""The rows of one person in every table, by the `OfPerson` rules beside the models: locked, erased and exported."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Table, TextClause, text

from core.database import TenantSession
from models import Base
from models.base import OF_PERSON, OfPerson


@dataclass(frozen=True, slots=True)
class RuledTable:
    """A table, and what one of its columns that name a person asks for."""

    table: Table
    rule: OfPerson

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def found(self) -> str:
        """The predicate, over the row as `r`, of the rows that are of `:person`."""
        return f"r.tenant_id = :tenant AND ({self.rule.rows or f'r.{self.rule.column} = :person'})"


@cache
def ruled_tables() -> tuple[RuledTable, ...]:
    """Return every rule of every table; rows that are found through another table's come before that one's."""
    ruled = [
        RuledTable(table, rule)
        for table in Base.metadata.sorted_tables
        for rule in cast("tuple[OfPerson, ...]", table.info.get(OF_PERSON, ()))
    ]
    return tuple(sorted(ruled, key=lambda each: each.rule.rows is None))


async def lock_kept_elsewhere(session: TenantSession, person_id: UUID) -> None:
    """Lock the person's rows that other domains change before they touch the person itself, in their order.

    Whoever then locks the person meets nobody who holds one of these rows and waits for the person.
    """
    for each in ruled_tables():
        if each.rule.erase == "detach" or (each.rule.erase == "delete" and each.rule.rows is not None):
            await session.execute(_lock(each), {"tenant": session.tenant_id, "person": person_id})


def _lock(each: RuledTable) -> TextClause:
    key = ", ".join(f"r.{column.name}" for column in each.table.primary_key)
    return text(
        f"SELECT count(*) FROM (SELECT FROM {each.name} AS r WHERE {each.found} ORDER BY {key} FOR UPDATE) AS locked"  # noqa: S608 - names and rules of our models
    )


async def erase(session: TenantSession, person_id: UUID) -> Mapping[str, list[UUID]]:
    """Delete the person's rows, or take the person out of them, as their rules say; return what each table lost.

    By table, one id for each row: the row's own, or the person's in tables whose rows have none. The tables of the
    rule `own` are left to `tl_erase`, the person's row to the caller.
    """
    touched: dict[str, list[UUID]] = {}
    for each in ruled_tables():
        if each.rule.erase not in {"delete", "detach"}:
            continue
        ids = await session.scalars(_erase(each), {"tenant": session.tenant_id, "person": person_id})
        touched.setdefault(each.name, []).extend(ids)
    return touched


def _erase(each: RuledTable) -> TextClause:
    returning = "r.id" if "id" in each.table.columns else f"r.{each.rule.column}"
    if each.rule.erase == "delete":
        return text(f"DELETE FROM {each.name} AS r WHERE {each.found} RETURNING {returning}")  # noqa: S608 - as above
    values = {each.rule.column: "NULL", **each.rule.blanks}
    assignments = ", ".join(f"{column} = {value}" for column, value in values.items())
    # What is returned is the row as it is now, so without the person.
    returning = returning if "id" in each.table.columns else "CAST(:person AS uuid)"
    return text(f"UPDATE {each.name} AS r SET {assignments} WHERE {each.found} RETURNING {returning}")  # noqa: S608 - as above


async def export(session: TenantSession, person_id: UUID, also_known_as: list[UUID]) -> dict[str, list[Any]]:
    """Return all rows of a person as JSON values, by table, in the order of their keys; without the tenant's column.

    Of tables whose rows keep naming people merged away, those of the aliases too.
    """
    found: dict[str, list[Any]] = {}
    for each in ruled_tables():
        rows = found.setdefault(each.name, [])
        for owner in [person_id, *also_known_as] if each.rule.merge == "stay" else [person_id]:
            rows += await session.scalars(_export(each), {"tenant": session.tenant_id, "person": owner})
    return found


def _export(each: RuledTable) -> TextClause:
    key = ", ".join(f"r.{column.name}" for column in each.table.primary_key)
    return text(f"SELECT to_jsonb(r) - 'tenant_id' FROM {each.name} AS r WHERE {each.found} ORDER BY {key}")  # noqa: S608 - as above
