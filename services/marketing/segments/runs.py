"""The computations of segments, looked at: which there were, which have stopped moving, which are old."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import Database, TenantSession
from core.ids import new_id
from models import SegmentRefresh
from services.marketing.segments import refreshing

STUCK_AFTER: Final = timedelta(minutes=10)
"""A computation that has not moved for so long has lost its workflow."""
KEPT: Final = timedelta(days=90)


async def page(
    session: TenantSession, segment_id: UUID, *, limit: int, before: UUID | None
) -> Sequence[SegmentRefresh]:
    """Return up to `limit` computations of a segment, newest first, those begun before `before` only."""
    statement = select(SegmentRefresh).where(
        SegmentRefresh.tenant_id == session.tenant_id, SegmentRefresh.segment_id == segment_id
    )
    if before is not None:
        statement = statement.where(SegmentRefresh.id < before)
    return (await session.scalars(statement.order_by(SegmentRefresh.id.desc()).limit(limit))).all()


async def last(session: TenantSession, segment_ids: Sequence[UUID]) -> dict[UUID, SegmentRefresh]:
    """Return by segment its last computation where that is under way or failed."""
    found = await session.scalars(
        select(SegmentRefresh)
        .where(SegmentRefresh.tenant_id == session.tenant_id, SegmentRefresh.segment_id.in_(segment_ids))
        .ext(distinct_on(SegmentRefresh.segment_id))
        .order_by(SegmentRefresh.segment_id, SegmentRefresh.id.desc())
    )
    return {run.segment_id: run for run in found if run.status in {*refreshing.ACTIVE, "failed"}}


async def resume_stuck(database: Database) -> int:
    """Start again what has not moved for long: its workflow is gone. Return how many.

    Whoever still works on one is not disturbed: a page is taken once.
    """
    async with database.system() as session:
        stuck = await _stuck(session)
    for tenant_id, run_id in stuck:
        async with database.tenant(tenant_id) as own:
            run = await own.get(SegmentRefresh, (tenant_id, run_id), with_for_update=True)
            if run is not None and run.status in refreshing.ACTIVE:
                run.updated_at = func.now()
                await own.flush()
                await own.refresh(run)
                await refreshing.start(own, run, entity_id=new_id())
    return len(stuck)


async def _stuck(session: AsyncSession) -> list[tuple[UUID, UUID]]:
    rows = await session.execute(
        select(SegmentRefresh.tenant_id, SegmentRefresh.id).where(
            text("(status = 'queued' OR status = 'running')"),
            SegmentRefresh.updated_at < func.now() - STUCK_AFTER,
        )
    )
    return [(row.tenant_id, row.id) for row in rows]


async def forget_old(session: AsyncSession) -> None:
    """Delete computations that ended long ago; needs a session of tl_system."""
    await session.execute(delete(SegmentRefresh).where(SegmentRefresh.finished_at < func.now() - KEPT))
