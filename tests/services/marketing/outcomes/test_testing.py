"""A/B tests decided: by what the sample did, by what the test says where there is no difference, and by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select

from core.actor import CLI
from core.errors import ConflictError, InvalidError
from core.ids import new_id
from models import Conversion, WorkflowStart
from services.marketing.outcomes import testing
from services.marketing.outcomes.proportions import Count
from tests.factories.marketing import Marketing
from tests.services.marketing.outcomes.running import TEST, Running, running


def sample(variant: int, sent: int, **answered: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - columns
    """Rows of a variant's sample, of which the first so many have each column at one."""
    return [
        {"variant": variant, "tested": True} | {column: 1 for column, count in answered.items() if number < count}
        for number in range(sent)
    ]


async def decision(made: Running) -> testing.Decision:
    async with made.marketing.session() as session:
        return await testing.decide(session, await made.run(session))


async def test_the_variant_that_is_ahead_by_more_than_chance_wins(marketing: Marketing) -> None:
    made = await running(marketing, test=TEST, variants=2)
    await made.add(sample(0, 60, clicks=10, opens=60) + sample(1, 60, clicks=30))
    # none of these counts
    await made.add(
        [{"variant": 0, "tested": False, "clicks": 1}] * 50
        + [{"variant": 0, "tested": True, "machine_clicks": 1, "status": "failed", "clicks": 0}] * 5
        + [{"variant": 0, "tested": True, "status": "excluded"}] * 5
    )
    other = await running(marketing, test=TEST, variants=2)
    await other.add(sample(0, 40, clicks=40))
    found = await decision(made)
    assert (found.winner, found.outcome) == (1, "winner")
    assert [(each["sent"], each["successes"]) for each in found.result["variants"]] == [(60, 10), (60, 30)]
    assert found.result["comparisons"][0]["p"] < 0.001


async def test_an_occurrence_is_judged_by_its_own_messages(marketing: Marketing) -> None:
    made = await running(marketing, test=TEST, variants=2, occurrence="2026-11-27T09:00Z")
    await made.add(sample(0, 3))
    await Running(marketing, made.campaign_id, made.run_id, made.version_id, "2026-11-27T09:01Z").add(sample(0, 7))
    async with marketing.session() as session:
        assert await testing.counts(session, await made.run(session)) == [Count(0, 3), Count(0, 0)]


async def test_clicks_of_machines_decide_nothing(marketing: Marketing) -> None:
    made = await running(marketing, test=TEST, variants=2)
    await made.add(sample(0, 60, machine_clicks=60, clicks=20) + sample(1, 60, clicks=20))
    assert (await decision(made)).outcome == "no_difference"


async def test_conversions_are_counted_by_message(marketing: Marketing) -> None:
    made = await running(marketing, test=TEST | {"metric": "conversions"}, variants=2)
    ids = await made.add(sample(0, 40) + sample(1, 40))
    rows = [
        {
            "tenant_id": marketing.tenant_id,
            "id": new_id(),
            "order_key": f"{number}",
            "message_id": ids[40 + number // 2],
            "campaign_id": made.campaign_id,
            "channel": "email",
            "touch": "click",
            "touched_at": datetime.now(UTC),
            "converted_at": datetime.now(UTC),
            "currency": "EUR",
            "amount_minor": 100,
        }
        for number in range(40)  # two orders of each
    ]
    async with marketing.session() as session:
        await session.execute(insert(Conversion), rows)
        assert await testing.counts(session, await made.run(session)) == [Count(0, 40), Count(20, 40)]
    assert (await decision(made)).winner == 1


@pytest.mark.parametrize(("fallback", "winner"), [("first", 0), ("best", 1), ("manual", None)])
def test_without_a_difference_the_test_says_what_the_rest_gets(fallback: str, winner: int | None) -> None:
    found = testing.judge([Count(30, 100), Count(33, 100)], TEST | {"fallback": fallback})
    assert (found.outcome, found.winner) == ("no_difference", winner)
    assert found.result["reason"] == "difference within chance"
    few = testing.judge([Count(0, 10), Count(10, 10)], TEST | {"fallback": fallback})
    assert (few.outcome, few.result["reason"]) == ("no_difference", "samples too small to tell")


async def test_somebody_chooses_while_the_test_runs(marketing: Marketing) -> None:
    made = await running(marketing, test=TEST, variants=2)
    for _ in range(2):  # twice is as good as once
        async with marketing.session() as session:
            run = await testing.choose(session, made.campaign_id, 1, by=CLI)
            assert (run.winner, run.result and run.result["outcome"]) == (1, "manual")
    async with marketing.session() as session:
        owed = await session.scalars(select(WorkflowStart.input).where(WorkflowStart.tenant_id == marketing.tenant_id))
        assert {each["run_id"] for each in owed} == {str(made.run_id)}
        with pytest.raises(ConflictError):
            await testing.choose(session, made.campaign_id, 0, by=CLI)


async def test_what_cannot_be_chosen_is_refused(marketing: Marketing) -> None:
    made, plain = await running(marketing, test=TEST, variants=2), await running(marketing)
    async with marketing.session() as session:
        with pytest.raises(InvalidError, match="variant"):
            await testing.choose(session, made.campaign_id, 2, by=CLI)
        with pytest.raises(ConflictError):
            await testing.choose(session, plain.campaign_id, 0, by=CLI)
        with pytest.raises(ConflictError):
            await testing.choose(session, made.campaign_id, 0, occurrence="other", by=CLI)
