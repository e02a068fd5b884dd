"""Whatever happens to deals, their stays leave no gap and add up to their life."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.actor import CLI
from core.database import Database
from services.crm import pipelines
from services.crm.pipelines import PipelineChange
from services.identity import merging
from services.tenancy import tenants
from tests.factories.selling import STAGES, Selling

_KEYS = [stage.key for stage in STAGES]
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.sampled_from(_KEYS), st.just(0)),
        st.tuples(st.just("move"), st.sampled_from(_KEYS), st.integers(0, 9)),
        st.tuples(st.just("bulk"), st.sampled_from(_KEYS), st.just(0)),
        st.tuples(st.just("drop"), st.sampled_from(_KEYS), st.just(0)),
        st.tuples(st.just("merge"), st.just(""), st.just(0)),
    ),
    max_size=12,
)


async def _check(selling: Selling, deal_id: UUID) -> None:
    row = await selling.row(deal_id)
    stays = await selling.stays(row.id)
    assert [stay.number for stay in stays] == list(range(1, len(stays) + 1))
    assert [stay.left_at for stay in stays[:-1]] == [stay.entered_at for stay in stays[1:]]
    assert [stay.left_at is None for stay in stays] == [False] * (len(stays) - 1) + [True]
    assert (stays[0].entered_at, stays[-1].entered_at) == (row.created_at, row.stage_entered_at)
    assert stays[-1].stage_id == row.stage_id
    lasted = sum((stay.left_at - stay.entered_at).total_seconds() for stay in stays if stay.left_at is not None)
    assert lasted == pytest.approx((row.stage_entered_at - row.created_at).total_seconds())
    async with selling.session() as session:
        found = await pipelines.get(session, row.pipeline_id)
    assert row.status == {stage.id: stage.kind for stage in found.stages}[row.stage_id]
    assert (row.closed_at is None) == (row.status == "open")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=_STEPS)
async def test_stays_add_up_to_the_life(database: Database, steps: list[tuple[str, str, int]]) -> None:
    async with database.system() as session:
        tenant = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    selling = Selling(database, tenant)
    stages = await selling.pipeline()
    person, losers = await selling.person(), 0
    made = [await selling.deal(stages["new"], person_id=person)]
    for kind, key, number in steps:
        if kind == "merge":
            losers += 1
            winner = await selling.person(f"winner{losers}@shop.example")
            async with selling.session() as session:
                await merging.merge(session, winner, person, by=CLI)
            person = winner
        elif kind == "drop":
            if key == "new" or key not in stages:
                continue
            kept = [replace(stage, id=None) for stage in STAGES if stage.key in stages and stage.key != key]
            change = PipelineChange(stages=kept, move_to={key: "new"})
            async with selling.session() as session:
                await pipelines.replace(session, stages[key].pipeline_id, change, by=CLI)
            del stages[key]
        elif key not in stages:
            continue
        elif kind == "create":
            made.append(await selling.deal(stages[key], person_id=person))
        else:
            await selling.move(made if kind == "bulk" else [made[number % len(made)]], stages[key])
    for deal_id in made:
        await _check(selling, deal_id)
        assert (await selling.row(deal_id)).person_id == person
