"""Stages of pipelines as deals meet them: read, and held against changes while deals come in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import Select, select

from core.database import TenantSession
from core.errors import InvalidError
from models import Pipeline, PipelineStage

FIELDS: Final = frozenset(
    {
        "amount",
        "close_date",
        "competitors",
        "contacts",
        "lost_reason",
        "organization_id",
        "owner_id",
        "primary_person_id",
        "probability",
        "products",
        "recurring",
        "source",
    }
)
"""What a stage may require of a deal, beside `attributes.NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, with its pipeline's key."""

    id: UUID
    key: str
    name: str
    kind: str
    position: int
    probability: int
    required_fields: tuple[str, ...]
    allowed_moves: frozenset[str] | None
    rotting_days: int | None
    pipeline_id: UUID
    pipeline_key: str

    @property
    def closed(self) -> bool:
        """Whether deals in it are over."""
        return self.kind != "open"


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of some pipelines, those that are there today."""

    by_id: Mapping[UUID, Stage]
    _of_pipeline: dict[UUID, list[Stage]] = field(default_factory=dict[UUID, list[Stage]])

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> "Stages":
        """Return these."""
        found = cls({stage.id: stage for stage in stages})
        for stage in stages:
            found._of_pipeline.setdefault(stage.pipeline_id, []).append(stage)
        return found

    def chosen(self, pipeline_id: UUID, stage_id: UUID | None) -> Stage:
        """Return the stage where a new deal of a pipeline begins: the one named, else the first open one.

        Raises:
            InvalidError: naming `pipeline_id` or `stage_id`.
        """
        if pipeline_id not in self._of_pipeline:
            raise InvalidError.of("pipeline_id", "there is no such pipeline")
        if stage_id is None:
            return next(stage for stage in self._of_pipeline[pipeline_id] if not stage.closed)
        stage = self.by_id.get(stage_id)
        if stage is None or stage.pipeline_id != pipeline_id:
            raise InvalidError.of("stage_id", "is no stage of this pipeline")
        return stage


def _select(session: TenantSession) -> Select[PipelineStage, str]:
    return (
        select(PipelineStage, Pipeline.key.label("pipeline_key"))
        .join(Pipeline, (Pipeline.tenant_id == PipelineStage.tenant_id) & (Pipeline.id == PipelineStage.pipeline_id))
        .where(PipelineStage.tenant_id == session.tenant_id, Pipeline.tenant_id == session.tenant_id)
        .order_by(PipelineStage.position, PipelineStage.id)
        .execution_options(populate_existing=True)
    )


async def _read(session: TenantSession, statement: Select[PipelineStage, str]) -> list[Stage]:
    rows = await session.execute(statement)
    return [_stage(row[0], row[1]) for row in rows]


def _stage(row: PipelineStage, pipeline_key: str) -> Stage:
    return Stage(
        id=row.id,
        key=row.key,
        name=row.name,
        kind=row.kind,
        position=row.position,
        probability=row.probability,
        required_fields=tuple(row.required_fields),
        allowed_moves=None if row.allowed_moves is None else frozenset(row.allowed_moves),
        rotting_days=row.rotting_days,
        pipeline_id=row.pipeline_id,
        pipeline_key=pipeline_key,
    )


async def hold(session: TenantSession, pipeline_ids: Collection[UUID]) -> Stages:
    """Keep the stages of these pipelines as they are until the transaction ends; return them.

    Call it before any deal is locked: whoever changes stages locks the pipeline first, then the deals in it.
    """
    await session.execute(
        select(Pipeline.id)
        .where(
            Pipeline.tenant_id == session.tenant_id,
            Pipeline.id.in_(sorted(pipeline_ids)),
            Pipeline.deleted_at.is_(None),
        )
        .order_by(Pipeline.id)
        .with_for_update(key_share=True, read=True)
    )
    # a statement of its own sees what was changed while the lock was waited for
    return Stages.of(
        await _read(
            session,
            _select(session).where(
                Pipeline.id.in_(sorted(pipeline_ids)),
                Pipeline.deleted_at.is_(None),
                PipelineStage.deleted_at.is_(None),
            ),
        )
    )


async def find(session: TenantSession, stage_id: UUID) -> Stage:
    """Return a stage, held against changes until the transaction ends; see `hold`.

    Raises:
        InvalidError: `stage_id`: there is none.
    """
    pipeline_id = await session.scalar(
        select(PipelineStage.pipeline_id).where(
            PipelineStage.tenant_id == session.tenant_id, PipelineStage.id == stage_id
        )
    )
    stage = None if pipeline_id is None else (await hold(session, [pipeline_id])).by_id.get(stage_id)
    if stage is None:
        raise InvalidError.of("stage_id", "there is no such stage")
    return stage


async def known(session: TenantSession, stage_ids: Collection[UUID]) -> dict[UUID, Stage]:
    """Return stages by id, also those that were deleted."""
    if not stage_ids:
        return {}
    found = await _read(session, _select(session).where(PipelineStage.id.in_(sorted(stage_ids))))
    return {stage.id: stage for stage in found}


async def of_pipeline(session: TenantSession, pipeline_id: UUID) -> list[Stage]:
    """Return the stages of a pipeline, in their order."""
    statement = _select(session).where(Pipeline.id == pipeline_id, PipelineStage.deleted_at.is_(None))
    return await _read(session, statement)


async def of_pipelines(session: TenantSession, pipeline_ids: Collection[UUID]) -> dict[UUID, list[Stage]]:
    """Return the stages of pipelines, in their order, by pipeline."""
    statement = _select(session).where(Pipeline.id.in_(sorted(pipeline_ids)), PipelineStage.deleted_at.is_(None))
    found: dict[UUID, list[Stage]] = {}
    for stage in await _read(session, statement):
        found.setdefault(stage.pipeline_id, []).append(stage)
    return found


async def by_keys(session: TenantSession, pipeline_key: str) -> dict[str, Stage]:
    """Return the stages of a pipeline by key, in their order; nothing where there is no such pipeline."""
    statement = _select(session).where(
        Pipeline.key == pipeline_key, Pipeline.deleted_at.is_(None), PipelineStage.deleted_at.is_(None)
    )
    return {stage.key: stage for stage in await _read(session, statement)}
