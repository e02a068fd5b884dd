"""How deals pass through a pipeline's stages: where they go from each, and how long they stay."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.types import DateTime, Uuid

from core.database import TenantSession
from services.crm.reports.periods import Days
from services.crm.reports.scope import Scope

# Stages that were deleted are told of where deals came into them.
_CONVERSION: Final = """
    WITH stay AS (
      SELECT e.stage_id, e.deal_id, e.left_at - e.entered_at AS lasted, d.status,
             CASE WHEN e.left_at IS NULL THEN 'still' WHEN t.pipeline_id <> s.pipeline_id THEN 'elsewhere'
                  WHEN t.kind = 'lost' THEN 'lost'
                  WHEN t.kind = 'won' OR s.kind = 'open' AND t.position > s.position THEN 'on' ELSE 'back' END AS went
      FROM pipeline_stage s
      JOIN deal_stage_entry e ON e.tenant_id = :tenant AND e.stage_id = s.id
        AND e.entered_at >= :since AND e.entered_at < :before
      JOIN deal d ON d.tenant_id = :tenant AND d.id = e.deal_id {scope}
      LEFT JOIN deal_stage_entry n ON n.tenant_id = :tenant AND n.deal_id = e.deal_id AND n.number = e.number + 1
      LEFT JOIN pipeline_stage t ON t.tenant_id = :tenant AND t.id = n.stage_id
      WHERE s.tenant_id = :tenant AND s.pipeline_id = :of
    ), told AS (
      SELECT stage_id, count(*) AS entered, count(*) FILTER (WHERE went = 'on') AS moved_on,
             count(*) FILTER (WHERE went = 'back') AS back, count(*) FILTER (WHERE went = 'lost') AS lost,
             count(*) FILTER (WHERE went = 'elsewhere') AS elsewhere, count(*) FILTER (WHERE went = 'still') AS still,
             percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM lasted)::float8) AS median_seconds,
             avg(extract(epoch FROM lasted))::float8 AS mean_seconds,
             count(DISTINCT deal_id) AS deals, count(DISTINCT deal_id) FILTER (WHERE status = 'won') AS deals_won,
             count(DISTINCT deal_id) FILTER (WHERE status = 'lost') AS deals_lost
      FROM stay GROUP BY stage_id
    )
    SELECT s.id, s.key, s.name, s.kind, s.probability, s.deleted_at IS NOT NULL AS deleted, t.*
    FROM pipeline_stage s LEFT JOIN told t ON t.stage_id = s.id
    WHERE s.tenant_id = :tenant AND s.pipeline_id = :of AND (s.deleted_at IS NULL OR t.entered > 0)
    ORDER BY s.deleted_at IS NOT NULL, s.position, s.id
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of stays in a stage that began in the period; each is in one of the five that follow `entered`."""

    id: UUID
    key: str
    name: str
    kind: str
    probability: int
    deleted: bool
    entered: int
    moved_on: int
    """To a later stage of the pipeline, or a won one."""
    back: int
    """To an earlier stage, or to an open one from where deals are over."""
    lost: int
    elsewhere: int
    """To another pipeline."""
    still: int
    median_seconds: float | None
    """How long those lasted that are over; None where none is."""
    mean_seconds: float | None
    deals: int
    """How many deals came in, each counted once; a deal may stay in a stage more than once."""
    deals_won: int
    """Of these, how many are won by now."""
    deals_lost: int


async def read(session: TenantSession, pipeline_id: UUID, days: Days, *, owner_id: UUID | None = None) -> list[Passage]:
    """Return what became of stays that began in some days, by stage in the pipeline's order.

    Raises:
        NotFoundError: no such pipeline in this tenant.
    """
    await Scope(pipeline_id=pipeline_id).check(session)
    scope = Scope(owner_id=owner_id)
    statement = text(_CONVERSION.format(scope=scope.where)).bindparams(
        bindparam("of", pipeline_id, type_=Uuid),
        bindparam("since", days.since, type_=DateTime(timezone=True)),
        bindparam("before", days.before, type_=DateTime(timezone=True)),
        *scope.parameters,
    )
    rows = await session.execute(statement, {"tenant": session.tenant_id})
    counts = ("entered", "moved_on", "back", "lost", "elsewhere", "still", "deals", "deals_won", "deals_lost")
    return [
        Passage(
            id=row.id,
            key=row.key,
            name=row.name,
            kind=row.kind,
            probability=row.probability,
            deleted=row.deleted,
            median_seconds=row.median_seconds,
            mean_seconds=row.mean_seconds,
            **{name: getattr(row, name) or 0 for name in counts},
        )
        for row in rows
    ]
