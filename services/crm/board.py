"""A pipeline's board: its stages with what their deals are worth together, and the first cards of each.

One statement. Open deals are counted off the index of deals by status, cards are read off that of deals by stage. Of
stages where deals are over, those that were closed of late are counted, off the index of closed deals.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.types import Integer, Uuid

from core.database import TenantSession
from core.errors import InvalidError, NotFoundError

MAX_CARDS: Final = 100
MAX_CLOSED_DAYS: Final = 366

_BOARD: Final = """
    WITH shown AS NOT MATERIALIZED (
      SELECT s.id, s.key, s.name, s.kind, s.position, s.probability, s.rotting_days
      FROM pipeline_stage s
      JOIN pipeline p ON p.tenant_id = :tenant AND p.id = s.pipeline_id AND p.deleted_at IS NULL
      WHERE s.tenant_id = :tenant AND s.pipeline_id = :pipeline AND s.deleted_at IS NULL {stage}
    ), total AS (
      SELECT d.stage_id, count(*) AS deals, sum(d.base_minor) AS minor,
             sum(d.base_minor::numeric * coalesce(d.probability, s.probability)) AS weighted,
             count(*) FILTER (WHERE d.touched_at < now() - make_interval(days => s.rotting_days)) AS rotting
      FROM deal d JOIN shown s ON s.id = d.stage_id
      WHERE d.tenant_id = :tenant AND d.status = 'open' AND d.pipeline_id = :pipeline {owner}
      GROUP BY d.stage_id
      UNION ALL
      SELECT d.stage_id, count(*), sum(d.base_minor), sum(d.base_minor::numeric * s.probability), 0
      FROM deal d JOIN shown s ON s.id = d.stage_id
      WHERE d.tenant_id = :tenant AND d.closed_at >= now() - make_interval(days => :closed_days)
        AND d.closed_at IS NOT NULL AND d.pipeline_id = :pipeline {owner}
      GROUP BY d.stage_id
    )
    SELECT s.id AS stage_id, s.key AS stage, s.name AS stage_name, s.kind, s.probability AS stage_probability,
           s.rotting_days, coalesce(t.deals, 0) AS deals, coalesce(t.minor, 0) AS minor,
           round(coalesce(t.weighted, 0) / 100) AS weighted, coalesce(t.rotting, 0) AS rotting,
           (SELECT base_currency FROM tenant WHERE tenant.id = :tenant) AS base_currency,
           c.*, p.first_name, p.last_name, p.email, o.name AS organization_name
    FROM shown s
    LEFT JOIN total t ON t.stage_id = s.id
    LEFT JOIN LATERAL (
      SELECT d.id, d.title, d.amount_minor, d.currency, d.base_minor, d.probability, d.close_date, d.owner_id,
             d.person_id, d.organization_id, d.stage_entered_at, d.touched_at, d.version,
             coalesce(d.touched_at < now() - make_interval(days => s.rotting_days), false) AS card_rots
      FROM deal d
      WHERE d.tenant_id = :tenant AND d.stage_id = s.id AND s.kind = 'open' {owner} {before}
      ORDER BY d.id DESC LIMIT :limit
    ) c ON true
    LEFT JOIN person p ON p.tenant_id = :tenant AND p.id = c.person_id
    LEFT JOIN organization o ON o.tenant_id = :tenant AND o.id = c.organization_id
    ORDER BY s.position, s.id, c.id DESC
"""


@dataclass(frozen=True, slots=True)
class Card:
    """An open deal on the board."""

    id: UUID
    title: str
    amount_minor: int
    currency: str
    base_minor: int
    probability: int
    """Its own, else the stage's."""
    close_date: date | None
    owner_id: UUID | None
    person_id: UUID | None
    first_name: str | None
    last_name: str | None
    email: str | None
    organization_id: UUID | None
    organization_name: str | None
    stage_entered_at: datetime
    touched_at: datetime
    rotting: bool
    version: int


@dataclass(frozen=True, slots=True)
class Column:
    """A stage on the board."""

    id: UUID
    key: str
    name: str
    kind: str
    probability: int
    rotting_days: int | None
    deals: int
    minor: int
    """What they are worth in the base currency."""
    weighted_minor: int
    """That, each weighed by its probability; rounded once."""
    rotting: int
    cards: list[Card] = field(default_factory=list[Card])


@dataclass(frozen=True, slots=True)
class Board:
    """A pipeline's board."""

    base_currency: str
    columns: list[Column]


async def read(
    session: TenantSession,
    pipeline_id: UUID,
    *,
    limit: int,
    owner_id: UUID | None = None,
    stage_id: UUID | None = None,
    before: UUID | None = None,
    closed_days: int = 30,
) -> Board:
    """Return a pipeline's board, or one of its stages.

    Args:
        session: of the tenant.
        pipeline_id: whose.
        limit: cards of each stage.
        owner_id: whose deals alone.
        stage_id: this stage alone.
        before: cards of deals made before this one only.
        closed_days: how many days back a deal may have been closed to be counted in its stage.

    Raises:
        NotFoundError: no such pipeline in this tenant.
        InvalidError: `stage_id`: no such stage in the pipeline.
    """
    given = {"owner": owner_id, "stage": stage_id, "before": before}
    statement = text(
        _BOARD.format(
            owner="" if owner_id is None else "AND d.owner_id = :owner",
            stage="" if stage_id is None else "AND s.id = :stage",
            before="" if before is None else "AND d.id < :before",
        )
    ).bindparams(
        bindparam("pipeline", type_=Uuid),
        bindparam("limit", type_=Integer),
        bindparam("closed_days", type_=Integer),
        *(bindparam(name, type_=Uuid) for name, value in given.items() if value is not None),
    )
    values = {name: value for name, value in given.items() if value is not None}
    fixed = {"tenant": session.tenant_id, "pipeline": pipeline_id, "limit": limit, "closed_days": closed_days}
    rows = (await session.execute(statement, fixed | values)).all()
    if not rows:
        if stage_id is None:
            raise NotFoundError("No such pipeline.")
        raise InvalidError.of("stage_id", "is no stage of this pipeline")
    columns: dict[UUID, Column] = {}
    for row in rows:
        column = columns.get(row.stage_id)
        if column is None:
            column = columns[row.stage_id] = Column(
                id=row.stage_id,
                key=row.stage,
                name=row.stage_name,
                kind=row.kind,
                probability=row.stage_probability,
                rotting_days=row.rotting_days,
                deals=row.deals,
                minor=int(row.minor),
                weighted_minor=int(row.weighted),
                rotting=row.rotting,
            )
        if row.id is not None:
            column.cards.append(
                Card(
                    id=row.id,
                    title=row.title,
                    amount_minor=row.amount_minor,
                    currency=row.currency,
                    base_minor=row.base_minor,
                    probability=row.stage_probability if row.probability is None else row.probability,
                    close_date=row.close_date,
                    owner_id=row.owner_id,
                    person_id=row.person_id,
                    first_name=row.first_name,
                    last_name=row.last_name,
                    email=row.email,
                    organization_id=row.organization_id,
                    organization_name=row.organization_name,
                    stage_entered_at=row.stage_entered_at,
                    touched_at=row.touched_at,
                    rotting=row.card_rots,
                    version=row.version,
                )
            )
    return Board(rows[0].base_currency, list(columns.values()))
