"""Budgets: exactly as many recipients are queued as the budget pays for."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Campaign
from services.marketing.campaigns import budget, control, freezing, planning, runs
from services.marketing.campaigns.planning import Due
from tests.factories.campaigning import Campaigning, campaigning
from tests.factories.marketing import Marketing

# a cent and a half each, and 50 cents a run: 65 cents pay for 10
COSTS: dict[str, Any] = {
    "currency": "EUR",
    "budget_minor": 65,
    "fixed_cost_minor": 50,
    "message_cost_micros": 15_000,
}


@pytest.fixture
def desk(marketing: Marketing) -> Campaigning:
    return campaigning(marketing)


async def reasons(desk: Campaigning) -> dict[UUID, str | None]:
    return {person: message.reason for person, (message, _) in (await desk.messages()).items()}


async def test_as_many_as_it_pays_for_are_queued_over_all_pages(
    desk: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "PAGE", 4)
    strangers = await desk.marketing.people(3, consent=False)
    people = await desk.marketing.people(13)
    campaign = await desk.campaign([*strangers, *people], **COSTS)
    await desk.do(control.send, campaign)
    run = await desk.freeze(campaign)
    found = await reasons(desk)
    assert run.audience == len(found) == 16
    # who may not be sent to costs nothing
    assert {found[each] for each in strangers} == {"no_consent"}
    assert [found[each] for each in sorted(people)] == [None] * 10 + ["budget"] * 3


async def test_a_budget_below_the_fixed_cost_pays_for_nobody(desk: Campaigning) -> None:
    people = await desk.marketing.people(2)
    campaign = await desk.campaign(people, **{**COSTS, "budget_minor": 49})
    await desk.do(control.send, campaign)
    await desk.freeze(campaign)
    assert set((await reasons(desk)).values()) == {"budget"}
    assert await desk.look(campaign) == "done"


async def test_a_later_run_has_what_the_others_left(desk: Campaigning) -> None:
    people = await desk.marketing.people(4)
    campaign = await desk.campaign(people, **{**COSTS, "budget_minor": 109})
    await desk.do(control.send, campaign)
    await desk.freeze(campaign)
    await desk.deliver()
    async with desk.marketing.session() as session:
        found = await session.get_one(Campaign, (session.tenant_id, campaign))
        [first] = await desk.runs(campaign)
        due = Due(first.due_at)
        second = await runs.add(session, found, "2026-11-27T09:00Z", due, await planning.plan_of(session, found, due))
        assert second is not None
        # nine cents after two runs are six messages, four of which are gone
        assert await budget.left(session, found, second) == 2


@given(
    costs=st.integers(0, 10**9),
    left=st.integers(0, 10**12),
    fixed=st.integers(0, 1000),
    code=st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_one_more_would_cost_too_much(costs: int, left: int, fixed: int, code: str) -> None:
    campaign = Campaign(currency=code, budget_minor=left + fixed, fixed_cost_minor=fixed, message_cost_micros=costs)
    number = budget.affordable(campaign, 1)
    if number is None:
        assert costs == 0
        return
    assert budget.spent(campaign, 1, number, code) <= left + fixed < budget.spent(campaign, 1, number + 1, code)
