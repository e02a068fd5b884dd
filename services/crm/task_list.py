"""Lists of tasks: open ones by urgency, all others newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, and_, select, tuple_, union_all

from core.database import TenantSession
from models import Task
from services.identity import aliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which tasks; all that is given must hold."""

    status: str | None = None
    owner_id: UUID | None = None
    person_id: UUID | None = None
    organization_id: UUID | None = None
    deal_id: UUID | None = None
    due_before: datetime | None = None


async def open_ones(
    session: TenantSession, wanted: Filter, *, limit: int, after: tuple[datetime | None, UUID] | None
) -> Sequence[Task]:
    """Return up to `limit` open tasks, the most urgent first and those without a time last, behind `after`."""
    chosen = (await _chosen(session, wanted)).where(Task.status == "open")
    dated = chosen.where(Task.due_at.is_not(None))
    undated = chosen.where(Task.due_at.is_(None))
    if after is not None and after[0] is not None:
        dated = dated.where(tuple_(Task.due_at, Task.id) > after)
    elif after is not None:
        undated = undated.where(Task.id > after[1])
    parts: list[Select[UUID, datetime | None]] = []
    if after is None or after[0] is not None:
        parts.append(dated.order_by(Task.due_at, Task.id).limit(limit))
    if wanted.due_before is None:
        parts.append(undated.order_by(Task.id).limit(limit))
    if not parts:
        return []
    # Each part off its index; together they are a page.
    page = union_all(*(select(part.subquery()) for part in parts)).subquery()
    first = select(page.c.id).order_by(page.c.due_at.asc().nulls_last(), page.c.id).limit(limit)
    statement = (
        select(Task)
        .where(Task.tenant_id == session.tenant_id, Task.id.in_(first))
        .order_by(Task.due_at.asc().nulls_last(), Task.id)
    )
    return (await session.scalars(statement)).all()


async def newest(session: TenantSession, wanted: Filter, *, limit: int, before: UUID | None) -> Sequence[Task]:
    """Return up to `limit` tasks in any state, or the one asked for, newest first, older than `before`."""
    chosen = await _chosen(session, wanted)
    if wanted.status is not None:
        chosen = chosen.where(Task.status == wanted.status)
    if before is not None:
        chosen = chosen.where(Task.id < before)
    ids = chosen.with_only_columns(Task.id).order_by(Task.id.desc()).limit(limit)
    statement = select(Task).where(Task.tenant_id == session.tenant_id, Task.id.in_(ids)).order_by(Task.id.desc())
    return (await session.scalars(statement)).all()


async def _chosen(session: TenantSession, wanted: Filter) -> Select[UUID, datetime | None]:
    conditions = [Task.tenant_id == session.tenant_id]
    if wanted.person_id is not None:
        conditions.append(Task.person_id == await aliases.living(session, wanted.person_id))
    for name in ("owner_id", "organization_id", "deal_id"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(getattr(Task, name) == value)
    if wanted.due_before is not None:
        conditions.append(Task.due_at < wanted.due_before)
    return select(Task.id, Task.due_at).where(and_(*conditions))
