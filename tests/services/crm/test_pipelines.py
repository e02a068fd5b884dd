"""Pipelines change as a whole; deals are never left without a stage."""

from dataclasses import replace
from uuid import UUID

import pytest

from core.actor import CLI
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from services.crm import pipelines
from services.crm.pipelines import NewPipeline, PipelineChange, WithStages
from services.crm.stage_plans import NewStage, plan
from services.crm.stages import Stage
from tests.factories.selling import STAGES, Selling


def again(stages: dict[str, Stage], *keys: str) -> list[NewStage]:
    """The stages as they are, in this order."""
    return [
        NewStage(
            id=stages[key].id,
            key=key,
            name=stages[key].name,
            kind=stages[key].kind,
            probability=stages[key].probability,
        )
        for key in keys
    ]


async def change(selling: Selling, pipeline_id: UUID, wanted: PipelineChange) -> WithStages:
    async with selling.session() as session:
        return await pipelines.replace(session, pipeline_id, wanted, by=CLI)


async def test_stages_have_an_order_and_chances_that_rise(selling: Selling) -> None:
    stages = await selling.pipeline()
    assert [(stage.key, stage.position, stage.probability) for stage in stages.values()] == [
        ("new", 0, 33),
        ("offer", 1, 66),
        ("won", 2, 100),
        ("lost", 3, 0),
    ]
    async with selling.session() as session:
        (listed,) = await pipelines.list_all(session)
        assert listed.stages == list(stages.values())
    with pytest.raises(ConflictError):
        await selling.pipeline()


async def test_stages_are_renamed_reordered_added_and_deleted_at_once(selling: Selling) -> None:
    stages = await selling.pipeline()
    pipeline_id = stages["new"].pipeline_id
    wanted = again(stages, "offer", "new", "won")
    wanted[0] = replace(wanted[0], key="new", probability=90)
    wanted[1] = replace(wanted[1], key="offer")
    made = await change(
        selling,
        pipeline_id,
        PipelineChange(name="Sales", stages=[*wanted, NewStage(key="lost2", name="L", kind="lost")]),
    )
    assert [(stage.key, stage.id) for stage in made.stages[:3]] == [
        ("new", stages["offer"].id),
        ("offer", stages["new"].id),
        ("won", stages["won"].id),
    ]
    assert made.stages[3].key == "lost2"
    assert stages["lost"].id not in {stage.id for stage in made.stages}
    (_, logged) = await selling.log(pipeline_id)
    assert logged.type == "pipeline.updated"
    assert set(logged.changes) == {"stages"}
    same = await change(selling, pipeline_id, PipelineChange(name="Sales"))
    assert len(await selling.log(pipeline_id)) == 2
    assert [stage.key for stage in same.stages] == ["new", "offer", "won", "lost2"]
    with pytest.raises(InvalidError, match="no stage of this pipeline"):
        await change(selling, pipeline_id, PipelineChange(stages=[replace(STAGES[0], id=new_id()), *STAGES[1:]]))


async def test_a_stage_goes_when_its_deals_are_told_where_to(selling: Selling) -> None:
    stages = await selling.pipeline()
    pipeline_id = stages["new"].pipeline_id
    made = await selling.deal(stages["offer"])
    without = again(stages, "new", "won", "lost")
    with pytest.raises(ConflictError) as refused:
        await change(selling, pipeline_id, PipelineChange(stages=without))
    assert refused.value.errors[0].field == "move_to.offer"
    for wrong in ({"offer": "nowhere"}, {"new": "won", "offer": "won"}, {"offer": "offer"}):
        with pytest.raises(InvalidError):
            await change(selling, pipeline_id, PipelineChange(stages=without, move_to=wrong))
    with pytest.raises(InvalidError):
        await change(selling, pipeline_id, PipelineChange(move_to={"offer": "won"}))
    await change(selling, pipeline_id, PipelineChange(stages=without, move_to={"offer": "won"}))
    row = await selling.row(made)
    assert (row.stage_id, row.status) == (stages["won"].id, "won")
    assert [stay.stage_id for stay in await selling.stays(made)] == [stages["offer"].id, stages["won"].id]
    assert "deal.won" in {event.type for event in await selling.events(made)}
    with pytest.raises(InvalidError):
        await selling.move([made], stages["offer"])
    with pytest.raises(ConflictError, match="kind"):
        await change(
            selling, pipeline_id, PipelineChange(stages=[without[0], replace(without[1], kind="open"), without[2]])
        )


async def test_a_pipeline_with_deals_stays(selling: Selling) -> None:
    stages = await selling.pipeline()
    pipeline_id = stages["new"].pipeline_id
    made = await selling.deal(stages["lost"])
    with pytest.raises(ConflictError):
        async with selling.session() as session:
            await pipelines.remove(session, pipeline_id, by=CLI)
    other = await selling.pipeline("other")
    await selling.move([made], other["new"], pipeline_id=other["new"].pipeline_id)
    async with selling.session() as session:
        await pipelines.remove(session, pipeline_id, by=CLI)
    with pytest.raises(NotFoundError):
        await change(selling, pipeline_id, PipelineChange(name="Gone"))
    assert await selling.pipeline(), "its key is free again"
    assert [stay.stage_id for stay in await selling.stays(made)] == [stages["lost"].id, other["new"].id]


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ([], "stages"),
        ([STAGES[2]], "stages"),
        ([STAGES[0], STAGES[0]], "stages.1.key"),
        ([replace(STAGES[0], kind="maybe"), STAGES[1]], "stages.0.kind"),
        ([replace(STAGES[0], probability=101)], "stages.0.probability"),
        ([STAGES[0], replace(STAGES[2], probability=50)], "stages.1.probability"),
        ([replace(STAGES[0], rotting_days=0)], "stages.0.rotting_days"),
        ([STAGES[0], replace(STAGES[2], rotting_days=3)], "stages.1.rotting_days"),
        ([replace(STAGES[0], required_fields=["name"])], "stages.0.required_fields"),
        ([replace(STAGES[0], required_fields=["lost_reason"])], "stages.0.required_fields"),
        ([replace(STAGES[0], allowed_moves=["nowhere"])], "stages.0.allowed_moves"),
        ([replace(STAGES[0], id=new_id())], "stages.0.id"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: list[NewStage], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        plan(stages, [])
    assert refused.value.errors[0].field == field


async def test_there_are_not_more_pipelines_than_a_teammate_can_choose_from(
    selling: Selling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "MAX_PIPELINES", 1)
    await selling.pipeline()
    with pytest.raises(ConflictError):
        async with selling.session() as session:
            await pipelines.create(session, NewPipeline(key="b", name="B", stages=STAGES), by=CLI)
