"""Rules of stages become journeys, change with the pipeline, and end with the stage."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from core.actor import CLI
from core.errors import InvalidError
from models import Journey, JourneyVersion
from services.crm import pipelines
from services.crm.automation import Rule, definition_of
from services.crm.pipelines import NewPipeline, PipelineChange, WithStages
from services.crm.stage_plans import NewStage
from services.crm.stages import Stage
from tests.factories.marketing import Marketing

CALL: dict[str, Any] = {"type": "create_task", "title": "Call", "kind": "call", "due_in": "P1D"}
NOTE: dict[str, Any] = {"type": "create_task", "title": "Write"}


def rule(key: str = "call", **more: Any) -> Rule:  # noqa: ANN401 - fields
    fields: dict[str, Any] = {"key": key, "on": "enter", "then": [CALL]}
    return Rule(**fields | more)


def stage(**more: Any) -> NewStage:  # noqa: ANN401 - fields
    fields: dict[str, Any] = {"key": "new", "name": "New"}
    return NewStage(**fields | more)


WON = NewStage(key="won", name="Won", kind="won")


async def make(marketing: Marketing, *stages: NewStage) -> WithStages:
    async with marketing.session() as session:
        new = NewPipeline(key="sales", name="Sales", stages=[*stages, WON])
        return await pipelines.create(session, new, by=CLI)


async def change(marketing: Marketing, pipeline_id: UUID, *stages: NewStage) -> WithStages:
    async with marketing.session() as session:
        return await pipelines.replace(session, pipeline_id, PipelineChange(stages=[*stages, WON]), by=CLI)


async def versions_of(marketing: Marketing, journey_id: UUID) -> tuple[str, int]:
    async with marketing.session() as session:
        status = await session.scalar(
            select(Journey.status).where(Journey.tenant_id == marketing.tenant_id, Journey.id == journey_id)
        )
        count = select(func.count()).where(
            JourneyVersion.tenant_id == marketing.tenant_id, JourneyVersion.journey_id == journey_id
        )
        return str(status), await session.scalar(count) or 0


def rules_of(found: WithStages) -> dict[str, UUID]:
    return {each.key: each.journey_id for each in found.automation.get(found.stages[0].id, ())}


async def test_a_rule_is_published_changed_kept_and_ended(marketing: Marketing) -> None:
    made = await make(marketing, stage(automation=[rule(), rule("write", then=[NOTE])]))
    journeys = rules_of(made)
    assert list(journeys) == ["call", "write"]
    assert await versions_of(marketing, journeys["call"]) == ("active", 1)
    pipeline_id = made.pipeline.id

    same = await change(marketing, pipeline_id, stage(name="Newest"))
    assert rules_of(same) == journeys
    assert await versions_of(marketing, journeys["call"]) == ("active", 1)

    changed = await change(marketing, pipeline_id, stage(automation=[rule(then=[NOTE])]))
    assert rules_of(changed) == {"call": journeys["call"]}
    assert await versions_of(marketing, journeys["call"]) == ("active", 2)
    assert (await versions_of(marketing, journeys["write"]))[0] == "cancelled"

    again = await change(marketing, pipeline_id, stage(automation=[rule("write", then=[NOTE])]))
    assert rules_of(again)["write"] != journeys["write"]
    other = await change(marketing, pipeline_id, NewStage(key="first", name="First"))
    assert other.automation == {}
    assert (await versions_of(marketing, rules_of(again)["write"]))[0] == "cancelled"


async def test_a_rule_that_rests_on_its_stage_follows_it(marketing: Marketing) -> None:
    made = await make(marketing, stage(rotting_days=14, automation=[rule("rot", on="rotting")]))
    journey = rules_of(made)["rot"]
    await change(marketing, made.pipeline.id, stage(rotting_days=7))
    assert (await versions_of(marketing, journey))[1] == 2
    with pytest.raises(InvalidError) as refused:
        await change(marketing, made.pipeline.id, stage())
    assert [error.field for error in refused.value.errors] == ["stages.0.automation.0.on"]


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"then": []}, "then"),
        ({"on": "after"}, "after"),
        ({"after": "P3D"}, "after"),
        ({"on": "after", "after": "soon"}, "after"),
        ({"on": "rotting"}, "on"),
        ({"then": [CALL, {**CALL, "next": "x"}]}, "then.1"),
        ({"then": [{"type": "exit", "reason": "x"}]}, "then.0"),
        ({"then": [CALL, {"type": "create_task"}]}, "then.1.title"),
        ({"then": [{"type": "send", "channel": "email", "template": "none"}]}, "then.0.template"),
        ({"then": [{"type": "move_deal", "stage": "nowhere"}]}, "then.0"),
        ({"then": [CALL, {"type": "move_deal", "stage": "won"}, CALL]}, "then.1"),
        ({"on": "after", "after": "P3D", "then": [{"type": "move_deal", "stage": "won"}, CALL]}, "then.0"),
        ({"when": {"field": "deal.nothing", "op": "=", "value": 1}}, "when"),
    ],
)
async def test_what_is_wrong_is_named_where_it_was_written(
    marketing: Marketing, wrong: dict[str, Any], place: str
) -> None:
    with pytest.raises(InvalidError) as refused:
        await make(marketing, stage(automation=[rule("fine"), rule(**wrong)]))
    assert refused.value.errors[0].field.startswith(f"stages.0.automation.1.{place}"), refused.value.errors


async def test_what_follows_a_move_is_done_where_the_deal_has_left_already(marketing: Marketing) -> None:
    move = {"type": "move_deal", "stage": "won"}
    made = await make(
        marketing, stage(automation=[rule(then=[CALL, move]), rule("back", on="leave", then=[move, CALL])])
    )
    assert list(rules_of(made)) == ["call", "back"]


async def test_a_key_stands_once(marketing: Marketing) -> None:
    with pytest.raises(InvalidError) as refused:
        await make(marketing, stage(automation=[rule(), rule()]))
    assert refused.value.errors[0].field == "stages.0.automation.1.key"


def test_times_come_before_conditions_and_those_before_acts() -> None:
    at = Stage(
        id=UUID(int=1),
        key="new",
        name="New",
        kind="open",
        position=0,
        probability=10,
        required_fields=(),
        allowed_moves=None,
        rotting_days=14,
        pipeline_id=UUID(int=2),
        pipeline_key="sales",
    )
    when = {"field": "deal.amount", "op": ">", "value": 1000}
    timed = definition_of(rule(on="after", after="P3D", when=when, then=[CALL, NOTE]), at)
    path = [timed["start"]]
    assert path == ["wait"]
    assert timed["nodes"]["wait"]["next"] == "when"
    assert timed["nodes"]["when"]["branches"][0]["next"] == "a0"
    assert [timed["nodes"][name]["next"] for name in ("a0", "a1")] == ["a1", "done"]
    left = definition_of(rule(on="leave"), at)
    assert left["entry"]["event"] == "deal.stage_left"
    assert [each["event"] for each in left["exit_when"]] == ["deal.deleted"]
