"""Pipelines with their stages: made, changed as a whole and deleted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert

from contracts.events import PIPELINE_CREATED, PIPELINE_DELETED, PIPELINE_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Deal, Pipeline, PipelineStage
from services.crm import automation, moving, rates, stages
from services.crm.automation import Rule, Running
from services.crm.stage_plans import NewStage, Plan, plan
from services.crm.stages import Stage
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_PIPELINES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPipeline:
    """A pipeline to be."""

    key: str
    name: str
    stages: Sequence[NewStage]
    """In their order."""
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineChange:
    """What a pipeline is to be; None: stays."""

    key: str | None = None
    name: str | None = None
    position: int | None = None
    stages: Sequence[NewStage] | None = None
    """All of them. One is known by its id, else by its key; those not named are deleted."""
    move_to: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where deals go whose stage is deleted: from its key to another's."""


@dataclass(frozen=True, slots=True)
class WithStages:
    """A pipeline and its stages, in their order."""

    pipeline: Pipeline
    stages: list[Stage]
    automation: Mapping[UUID, Sequence[Running]]
    """By stage."""


async def create(session: TenantSession, new: NewPipeline, *, by: Actor) -> WithStages:
    """Make a pipeline.

    Raises:
        InvalidError: its stages are not acceptable.
        ConflictError: the key is taken, or there are too many pipelines.
    """
    planned = plan(new.stages, [])
    count = select(func.count()).select_from(Pipeline)
    there = await session.scalar(count.where(Pipeline.tenant_id == session.tenant_id, Pipeline.deleted_at.is_(None)))
    if (there or 0) >= MAX_PIPELINES:
        raise ConflictError(f"There can be at most {MAX_PIPELINES} pipelines.")
    values = {"tenant_id": session.tenant_id, "id": new_id(), "key": new.key, "name": new.name}
    pipeline = await session.scalar(
        insert(Pipeline).values(**values, position=new.position).on_conflict_do_nothing().returning(Pipeline)
    )
    if pipeline is None:
        raise _taken(new.key)
    await _write(session, pipeline.id, planned)
    await automation.save(session, await stages.of_pipeline(session, pipeline.id), _automated(planned), by=by)
    made = await _whole(session, pipeline)
    changes = {"key": (None, new.key), "name": (None, new.name), "stages": (None, _shown(made.stages))}
    await _report(session, pipeline, PIPELINE_CREATED, changes, by=by)
    return made


async def replace(session: TenantSession, pipeline_id: UUID, change: PipelineChange, *, by: Actor) -> WithStages:
    """Change a pipeline and its stages; deals of a stage that goes are moved to the one named for it.

    Raises:
        NotFoundError: no such pipeline in this tenant.
        InvalidError: the stages are not acceptable.
        ConflictError: the key is taken; or deals are in a stage that is to go, or whose kind is to be another.
    """
    await rates.hold(session)
    pipeline = await _locked(session, pipeline_id)
    before = await stages.of_pipeline(session, pipeline_id)
    changes: dict[str, tuple[Any, Any]] = {}
    for name in ("key", "name", "position"):
        value = getattr(change, name)
        if value is not None and value != getattr(pipeline, name):
            changes[name] = (getattr(pipeline, name), value)
    if "key" in changes:
        await _check_free(session, changes["key"][1])
    planned = None if change.stages is None else plan(change.stages, before)
    if planned is not None:
        await _check_kinds(session, planned)
        await _write(session, pipeline_id, planned)
        await _delete(session, planned, await stages.of_pipeline(session, pipeline_id), change.move_to, by=by)
        await automation.end(session, [stage.id for stage in planned.gone], by=by)
    elif change.move_to:
        raise InvalidError.of("move_to", "is for stages that are deleted: give stages too")
    after = await stages.of_pipeline(session, pipeline_id)
    if _shown(before) != _shown(after):
        changes["stages"] = (_shown(before), _shown(after))
    if planned is not None and await automation.save(session, after, _automated(planned), by=by):
        changes["automation"] = (None, None)
    if changes:
        for name in changes.keys() - {"stages", "automation"}:
            setattr(pipeline, name, changes[name][1])
        pipeline.updated_at = func.now()
        await session.flush()
        await session.refresh(pipeline)
        await _report(session, pipeline, PIPELINE_UPDATED, changes, by=by)
    return await _whole(session, pipeline)


async def remove(session: TenantSession, pipeline_id: UUID, *, by: Actor) -> None:
    """Delete a pipeline; histories of deals go on naming its stages.

    Raises:
        NotFoundError: no such pipeline in this tenant.
        ConflictError: deals are in it.
    """
    pipeline = await _locked(session, pipeline_id)
    used = select(exists().where(Deal.tenant_id == session.tenant_id, Deal.pipeline_id == pipeline_id))
    if await session.scalar(used):
        raise ConflictError("Deals are in the pipeline: move or delete them first.")
    gone = await stages.of_pipeline(session, pipeline_id)
    await automation.end(session, [stage.id for stage in gone], by=by)
    await _drop(session, [stage.id for stage in gone])
    pipeline.deleted_at = func.now()
    await session.flush()
    changes = {"key": (pipeline.key, None), "name": (pipeline.name, None), "stages": (_shown(gone), None)}
    await _report(session, pipeline, PIPELINE_DELETED, changes, by=by)


async def get(session: TenantSession, pipeline_id: UUID) -> WithStages:
    """Return a pipeline.

    Raises:
        NotFoundError: no such pipeline in this tenant.
    """
    pipeline = await session.get(Pipeline, (session.tenant_id, pipeline_id), populate_existing=True)
    if pipeline is None or pipeline.deleted_at is not None:
        raise NotFoundError("No such pipeline.")
    return await _whole(session, pipeline)


async def list_all(session: TenantSession) -> list[WithStages]:
    """Return all pipelines, in their order."""
    found = await session.scalars(
        select(Pipeline)
        .where(Pipeline.tenant_id == session.tenant_id, Pipeline.deleted_at.is_(None))
        .order_by(Pipeline.position, Pipeline.id)
        .execution_options(populate_existing=True)
    )
    pipelines = found.all()
    of_all = await stages.of_pipelines(session, [pipeline.id for pipeline in pipelines])
    acting = await automation.of_stages(session, [stage.id for each in of_all.values() for stage in each])
    return [WithStages(pipeline, of_all.get(pipeline.id, []), acting) for pipeline in pipelines]


async def _whole(session: TenantSession, pipeline: Pipeline) -> WithStages:
    found = await stages.of_pipeline(session, pipeline.id)
    return WithStages(pipeline, found, await automation.of_stages(session, [stage.id for stage in found]))


async def _locked(session: TenantSession, pipeline_id: UUID) -> Pipeline:
    """Return the pipeline, held also against deals that would come in."""
    pipeline = await session.get(
        Pipeline, (session.tenant_id, pipeline_id), with_for_update=True, populate_existing=True
    )
    if pipeline is None or pipeline.deleted_at is not None:
        raise NotFoundError("No such pipeline.")
    return pipeline


async def _check_free(session: TenantSession, key: str) -> None:
    taken = exists().where(Pipeline.tenant_id == session.tenant_id, Pipeline.key == key, Pipeline.deleted_at.is_(None))
    if await session.scalar(select(taken)):
        raise _taken(key)


def _taken(key: str) -> ConflictError:
    return ConflictError(f"There is a pipeline with the key {key} already.", errors=[FieldProblem("key", "is taken")])


async def _check_kinds(session: TenantSession, planned: Plan) -> None:
    """Refuse another kind for a stage with deals in it: they would be won, lost or open of a sudden."""
    if not planned.turned:
        return
    used = await _used(session, planned.turned)
    for number, stage in enumerate(planned.kept):
        if stage.id in used:
            raise ConflictError(
                f"The kind of the stage {stage.key} cannot change: deals are in it.",
                errors=[FieldProblem(f"stages.{number}.kind", "cannot change while deals are in the stage")],
            )


async def _used(session: TenantSession, stage_ids: Sequence[UUID]) -> set[UUID]:
    found = await session.scalars(
        select(PipelineStage.id).where(
            PipelineStage.tenant_id == session.tenant_id,
            PipelineStage.id.in_(stage_ids),
            exists().where(Deal.tenant_id == session.tenant_id, Deal.stage_id == PipelineStage.id),
        )
    )
    return set(found)


async def _write(session: TenantSession, pipeline_id: UUID, planned: Plan) -> None:
    """Write the stages that stay and those that are new; keys may change places among them."""
    if planned.renamed:
        stage = PipelineStage
        await session.execute(
            update(stage)
            .where(stage.tenant_id == session.tenant_id, stage.id.in_(planned.renamed))
            .values(key=func.concat("~", stage.id))
        )
    if planned.gone:
        await session.execute(
            update(PipelineStage)
            .where(PipelineStage.tenant_id == session.tenant_id, PipelineStage.id.in_([one.id for one in planned.gone]))
            .values(deleted_at=func.now())
        )
    statement = insert(PipelineStage).values(
        [row | {"tenant_id": session.tenant_id, "pipeline_id": pipeline_id} for row in planned.rows()]
    )
    names = set(planned.rows()[0]) - {"id"}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "id"], set_={name: statement.excluded[name] for name in names}
        )
    )


async def _delete(
    session: TenantSession, planned: Plan, left: Sequence[Stage], move_to: Mapping[str, str], *, by: Actor
) -> None:
    """Empty the stages that go."""
    gone = {stage.key: stage for stage in planned.gone}
    there = {stage.key: stage for stage in left}
    for key, to in move_to.items():
        if key not in gone:
            raise InvalidError.of(f"move_to.{key[:64]}", "is no stage that is deleted")
        if to not in there:
            raise InvalidError.of(f"move_to.{key}", "must name a stage that stays")
    used = await _used(session, [stage.id for stage in planned.gone]) if planned.gone else set[UUID]()
    full = [stage.key for stage in planned.gone if stage.id in used and stage.key not in move_to]
    if full:
        raise ConflictError(
            f"Deals are in {', '.join(full)}: say in move_to which stage they go to.",
            errors=[FieldProblem(f"move_to.{key}", "is needed: deals are in the stage") for key in full],
        )
    for stage in planned.gone:
        if stage.id in used:
            await moving.relocate(session, stage, there[move_to[stage.key]], by=by)


async def _drop(session: TenantSession, stage_ids: Sequence[UUID]) -> None:
    await session.execute(
        update(PipelineStage)
        .where(PipelineStage.tenant_id == session.tenant_id, PipelineStage.id.in_(stage_ids))
        .values(deleted_at=func.now())
    )


def _automated(planned: Plan) -> dict[str, Sequence[Rule] | None]:
    return {stage.key: stage.automation for stage in planned.kept}


def _shown(found: Sequence[Stage]) -> list[dict[str, Any]]:
    return [
        {
            "key": stage.key,
            "name": stage.name,
            "kind": stage.kind,
            "probability": stage.probability,
            "required_fields": list(stage.required_fields),
            "allowed_moves": None if stage.allowed_moves is None else sorted(stage.allowed_moves),
            "rotting_days": stage.rotting_days,
        }
        for stage in found
    ]


async def _report(session: TenantSession, row: Pipeline, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="pipeline", subject_id=row.id, type=verb, changes=changes)
    properties = {"pipeline": row.key, "fields": sorted(changes)}
    await publish(session, [NewEvent(verb, row.id, subject_type="pipeline", properties=properties)])
