"""The shelves of the shop: a tree of categories."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, func, select, text
from sqlalchemy.dialects.postgresql import insert

from contracts.events import CATEGORY_CREATED, CATEGORY_DELETED, CATEGORY_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Category, ProductCategory
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_CATEGORIES: Final = 5_000
MAX_DEPTH: Final = 10
"""Levels of the tree."""

# Who changes the tree has it alone: two moves at once could make a ring.
_LOCK: Final = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('category_tree:' || CAST(CAST(:tenant AS uuid) AS text), 0))"
)
_DOWN: Final = text("""
    WITH RECURSIVE down AS (
      SELECT c.id, 1 AS level FROM category c WHERE c.tenant_id = :tenant AND c.id = :category
      UNION ALL
      SELECT c.id, down.level + 1 FROM down JOIN category c ON c.tenant_id = :tenant AND c.parent_id = down.id
      WHERE down.level <= :depth
    )
    SELECT id, level FROM down
""")
_UP: Final = text("""
    WITH RECURSIVE up AS (
      SELECT c.id, c.parent_id, 1 AS level FROM category c WHERE c.tenant_id = :tenant AND c.id = :category
      UNION ALL
      SELECT c.id, c.parent_id, up.level + 1 FROM up JOIN category c ON c.tenant_id = :tenant AND c.id = up.parent_id
      WHERE up.level <= :depth
    )
    SELECT id FROM up
""")


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> Category:
    """Add a category, of `key`, `name`, `parent_id` and `position`.

    Raises:
        InvalidError: there is no such parent, or it stands too low.
        ConflictError: the key is taken, or there are too many.
    """
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    count = await session.scalar(
        select(func.count()).select_from(Category).where(Category.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_CATEGORIES:
        raise ConflictError(f"There can be at most {MAX_CATEGORIES} categories.")
    await _check_parent(session, None, fields.get("parent_id"))
    row = await session.scalar(
        insert(Category)
        .values(tenant_id=session.tenant_id, id=new_id(), **fields)
        .on_conflict_do_nothing()
        .returning(Category)
    )
    if row is None:
        raise _taken(fields["key"])
    changes = {name: (None, _shown(value)) for name, value in fields.items() if value is not None}
    await _report(session, row, CATEGORY_CREATED, changes, by=by)
    return row


async def update(session: TenantSession, category_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> Category:
    """Change a category; without `parent_id` (None) it stands at the top.

    Raises:
        NotFoundError: no such category in this tenant.
        InvalidError: there is no such parent, or it stands too low.
        ConflictError: the key is taken, or the parent is among what is below it.
    """
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    row = await get(session, category_id, lock=True)
    before = {name: getattr(row, name) for name, value in fields.items() if getattr(row, name) != value}
    if not before:
        return row
    if "key" in before and await session.scalar(
        select(exists().where(Category.tenant_id == session.tenant_id, Category.key == fields["key"]))
    ):
        raise _taken(fields["key"])
    if "parent_id" in before:
        await _check_parent(session, category_id, fields["parent_id"])
    for name in before:
        setattr(row, name, fields[name])
    await session.flush()
    changes = {name: (_shown(value), _shown(fields[name])) for name, value in before.items()}
    await _report(session, row, CATEGORY_UPDATED, changes, by=by)
    return row


async def remove(session: TenantSession, category_id: UUID, *, by: Actor) -> None:
    """Delete a category; its products stay, in their other categories.

    Raises:
        NotFoundError: no such category in this tenant.
        ConflictError: others are below it.
    """
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    row = await get(session, category_id, lock=True)
    if await session.scalar(
        select(exists().where(Category.tenant_id == session.tenant_id, Category.parent_id == category_id))
    ):
        raise ConflictError("Other categories are below it: delete or move them first.")
    here = (ProductCategory.tenant_id == session.tenant_id, ProductCategory.category_id == category_id)
    count = await session.scalar(select(func.count()).select_from(ProductCategory).where(*here))
    await session.delete(row)
    await session.flush()
    changes = {"key": (row.key, None), "name": (row.name, None), "products": (count, 0)}
    await _report(session, row, CATEGORY_DELETED, changes, by=by)


async def get(session: TenantSession, category_id: UUID, *, lock: bool = False) -> Category:
    """Return a category.

    Raises:
        NotFoundError: no such category in this tenant.
    """
    row = await session.get(
        Category, (session.tenant_id, category_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such category.")
    return row


async def page(
    session: TenantSession, *, parent_id: UUID | None, key: str | None, limit: int, after: UUID | None
) -> Sequence[Category]:
    """Return up to `limit` categories, oldest first: all, or those directly below one, or the one with a key."""
    statement = select(Category).where(Category.tenant_id == session.tenant_id)
    if parent_id is not None:
        statement = statement.where(Category.parent_id == parent_id)
    if key is not None:
        statement = statement.where(Category.key == key)
    if after is not None:
        statement = statement.where(Category.id > after)
    return (await session.scalars(statement.order_by(Category.id).limit(limit))).all()


async def down(session: TenantSession, category_id: UUID) -> list[UUID]:
    """Return a category and all below it; nothing where it is not there."""
    return [row.id for row in await _below(session, category_id)]


async def _below(session: TenantSession, category_id: UUID) -> Sequence[Any]:
    values = {"tenant": session.tenant_id, "category": category_id, "depth": MAX_DEPTH}
    return (await session.execute(_DOWN, values)).all()


async def _check_parent(session: TenantSession, category_id: UUID | None, parent_id: UUID | None) -> None:
    if parent_id is None:
        return
    values = {"tenant": session.tenant_id, "category": parent_id, "depth": MAX_DEPTH}
    above = list(await session.scalars(_UP, values))
    if not above:
        raise InvalidError.of("parent_id", "is not known")
    if category_id in above:
        raise ConflictError(
            "A category cannot stand below itself.", errors=[FieldProblem("parent_id", "is this one, or below it")]
        )
    height = 1 if category_id is None else max((row.level for row in await _below(session, category_id)), default=1)
    if len(above) + height > MAX_DEPTH:
        raise InvalidError.of("parent_id", f"would make a tree of more than {MAX_DEPTH} levels")


def _taken(key: str) -> ConflictError:
    return ConflictError(f"There is a category with the key {key} already.", errors=[FieldProblem("key", "is taken")])


def _shown(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


async def _report(session: TenantSession, row: Category, kind: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="category", subject_id=row.id, type=kind, changes=changes)
    properties = {"key": row.key, "fields": sorted(changes)}
    await publish(session, [NewEvent(kind, row.id, subject_type="category", properties=properties)])
