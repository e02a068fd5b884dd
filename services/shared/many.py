"""Rows of many things at once, for whoever shows lists within lists: one statement, however many are asked for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import Uuid

from core.database import TenantSession
from models.base import TenantRow

RowT = TypeVar("RowT", bound=TenantRow)
T = TypeVar("T")


async def by_ids(session: TenantSession, entity: type[RowT], ids: Collection[UUID]) -> dict[UUID, RowT]:
    """Return those of the rows that there are, by their ids."""
    if not ids:
        return {}
    rows = await session.scalars(
        select(entity).where(entity.tenant_id == session.tenant_id, entity.id.in_(sorted(set(ids))))
    )
    return {row.id: row for row in rows}


async def newest_of(
    session: TenantSession,
    entity: type[TenantRow],
    parent: InstrumentedAttribute[Any],
    parents: Collection[UUID],
    *,
    limit: int,
    before: UUID | None = None,
    where: Sequence[ColumnElement[bool]] = (),
) -> dict[UUID, list[UUID]]:
    """Return the ids of the newest rows of each parent, `limit` at most of each, those made before `before` only.

    Each parent's are read off the index that begins with it, as a page of one parent's is. `parent` is the column that
    names it; parents without any are left out.
    """
    if not parents:
        return {}
    given = bindparam("parents", sorted(set(parents)), type_=ARRAY(Uuid))
    asked = func.unnest(given).table_valued("id", name="asked").render_derived()
    statement = select(entity.id).where(entity.tenant_id == session.tenant_id, parent == asked.c.id, *where)
    if before is not None:
        statement = statement.where(entity.id < before)
    newest = statement.order_by(entity.id.desc()).limit(limit).correlate(asked).lateral("newest")
    rows = await session.execute(
        select(asked.c.id.label("parent"), newest.c.id)
        .select_from(asked.join(newest, true()))
        .order_by(asked.c.id, newest.c.id.desc())
    )
    found: dict[UUID, list[UUID]] = {}
    for row in rows:
        found.setdefault(row.parent, []).append(row.id)
    return found


def members(ids: Mapping[UUID, Collection[UUID]]) -> list[UUID]:
    """Return all ids of all parents, each once, in order."""
    return sorted({each for of_parent in ids.values() for each in of_parent})


def by_parent(ids: Mapping[UUID, Sequence[UUID]], things: Mapping[UUID, T]) -> dict[UUID, list[T]]:
    """Return by parent the things that its ids name, in their order, without those that are not there."""
    return {parent: [things[each] for each in of_parent if each in things] for parent, of_parent in ids.items()}
