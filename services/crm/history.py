"""Where a deal was, and for how long."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, select

from core.database import TenantSession
from models import DealStageEntry, Pipeline, PipelineStage
from services.shared.many import by_parent, members, newest_of


@dataclass(frozen=True, slots=True)
class Stay:
    """A deal's stay in a stage."""

    number: int
    pipeline_id: UUID
    pipeline: str
    stage_id: UUID
    stage: str
    name: str
    kind: str
    entered_at: datetime
    left_at: datetime | None
    """None where the deal is now."""
    seconds: float
    """Until now, where it has not left."""
    actor: str
    """Who brought it there."""


async def page(session: TenantSession, deal_id: UUID, *, limit: int, after: int) -> list[Stay]:
    """Return up to `limit` stays of a deal, the first one first, those with a number above `after` only."""
    entry = DealStageEntry
    wanted = _stays(session).where(entry.deal_id == deal_id, entry.number > after)
    return [_stay(row) for row in await session.execute(wanted.order_by(entry.number).limit(limit))]


async def of_deals(
    session: TenantSession, deal_ids: Collection[UUID], limit: int, before: UUID | None
) -> dict[UUID, list[tuple[UUID, Stay]]]:
    """Return by deal up to `limit` stays of each with their ids, the last one first, those before `before` only."""
    ids = await newest_of(session, DealStageEntry, DealStageEntry.deal_id, deal_ids, limit=limit, before=before)
    rows = await session.execute(_stays(session).where(DealStageEntry.id.in_(members(ids))))
    return by_parent(ids, {row.id: (row.id, _stay(row)) for row in rows})


def _stays(session: TenantSession) -> Select[*tuple[Any, ...]]:
    entry = DealStageEntry
    # By the clock, not the transaction's beginning: a stay may have begun since.
    lasted = func.extract("epoch", func.coalesce(entry.left_at, func.clock_timestamp()) - entry.entered_at)
    return (
        select(
            entry.id,
            entry.number,
            entry.pipeline_id,
            Pipeline.key.label("pipeline"),
            entry.stage_id,
            PipelineStage.key.label("stage"),
            PipelineStage.name,
            PipelineStage.kind,
            entry.entered_at,
            entry.left_at,
            lasted.label("seconds"),
            entry.actor,
        )
        .join(PipelineStage, and_(PipelineStage.tenant_id == entry.tenant_id, PipelineStage.id == entry.stage_id))
        .join(Pipeline, and_(Pipeline.tenant_id == entry.tenant_id, Pipeline.id == entry.pipeline_id))
        .where(entry.tenant_id == session.tenant_id)
    )


def _stay(row: Row[Any]) -> Stay:
    return Stay(
        number=row.number,
        pipeline_id=row.pipeline_id,
        pipeline=row.pipeline,
        stage_id=row.stage_id,
        stage=row.stage,
        name=row.name,
        kind=row.kind,
        entered_at=row.entered_at,
        left_at=row.left_at,
        seconds=float(row.seconds),
        actor=row.actor,
    )
