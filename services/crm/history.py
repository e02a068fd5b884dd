"""Where a deal was, and for how long."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, select

from core.database import TenantSession
from models import DealStageEntry, Pipeline, PipelineStage


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
    # By the clock, not the transaction's beginning: a stay may have begun since.
    lasted = func.extract("epoch", func.coalesce(entry.left_at, func.clock_timestamp()) - entry.entered_at)
    rows = await session.execute(
        select(
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
        .where(entry.tenant_id == session.tenant_id, entry.deal_id == deal_id, entry.number > after)
        .order_by(entry.number)
        .limit(limit)
    )
    return [
        Stay(
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
        for row in rows
    ]
