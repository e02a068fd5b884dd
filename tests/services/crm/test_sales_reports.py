"""Reports on sales say what counting all deals again in plain Python says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import product
from statistics import mean, median

import pytest

from core.database import Database
from core.errors import NotFoundError
from core.ids import new_id
from models import Deal
from services.crm import rates
from services.crm.reports import conversion, losing, outcomes
from services.crm.reports.conversion import Passage
from services.crm.reports.figures import rounded
from services.crm.reports.outcomes import Outcome
from services.crm.reports.periods import Days, Months
from services.crm.reports.scope import Group, Grouping, Scope
from tests.factories.selling import Selling
from tests.services.crm.random_sales import Sales, sold

TODAY = rates.today()
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
async def sales(database: Database) -> Sales:
    """What was sold at random; no test changes it."""
    return await sold(database, seed=11, today=TODAY)


def of(sales: Sales, scope: Scope) -> list[Deal]:
    return [
        deal
        for deal in sales.deals
        if scope.pipeline_id in {None, deal.pipeline_id} and scope.owner_id in {None, deal.owner_id}
    ]


def closed(sales: Sales, scope: Scope, days: Days) -> list[tuple[Deal, datetime]]:
    found = [(deal, deal.closed_at.astimezone(UTC)) for deal in of(sales, scope) if deal.closed_at is not None]
    return [(deal, at) for deal, at in found if days.first <= at.date() <= days.last]


def recounted(sales: Sales, days: Days, scope: Scope, by: set[Grouping], *, with_open: bool) -> dict[Group, Outcome]:
    found: dict[Group, Outcome] = {}
    for deal, at in closed(sales, scope, days):
        outcome = found.setdefault(_key(sales, deal, by, at), Outcome())
        if deal.status == "won":
            took = (at - deal.created_at) // timedelta(microseconds=1)
            outcome.add(Outcome(won=1, won_minor=deal.base_minor, cycle=took))
        else:
            outcome.add(Outcome(lost=1, lost_minor=deal.base_minor))
    for deal in of(sales, scope):
        if with_open and deal.status == "open":
            found.setdefault(_key(sales, deal, by, None), Outcome()).add(Outcome(open=1))
    return found


def _key(sales: Sales, deal: Deal, by: set[Grouping], at: datetime | None) -> Group:
    return Group(
        at.date().replace(day=1) if at is not None and "month" in by else None,
        deal.owner_id if "owner" in by else None,
        deal.pipeline_id if "pipeline" in by else None,
        sales.stages[deal.stage_id].pipeline_key if "pipeline" in by else None,
    )


async def test_outcomes_are_what_a_recount_says(sales: Sales) -> None:
    everything = [Scope(), Scope(pipeline_id=sales.pipelines[1]), Scope(owner_id=sales.owners[0])]
    groupings: list[set[Grouping]] = [set(), {"month"}, {"owner", "pipeline"}]
    spans = [(None, None), (TODAY - timedelta(days=600), TODAY - timedelta(days=40))]
    for scope, by, span, with_open in product(everything, groupings, spans, (False, True)):
        if with_open and "month" in by:
            continue
        days = Days.of(*span, today=TODAY)
        async with sales.selling.session() as session:
            found = await outcomes.read(session, days, scope, by=by, with_open=with_open)
        told = recounted(sales, days, scope, by, with_open=with_open)
        assert found.items == told, (scope, by, span)
        total = Outcome()
        for outcome in told.values():
            total.add(outcome)
        assert found.total == total
        assert total.won > 0


async def test_velocity_is_exact_until_it_is_rounded(sales: Sales) -> None:
    days = Days.of(TODAY - timedelta(days=600), TODAY, today=TODAY)
    async with sales.selling.session() as session:
        total = (await outcomes.read(session, days, Scope(), by=[], with_open=True)).total
    assert total.average_minor is not None
    assert total.cycle_days is not None
    won = [(deal, at) for deal, at in closed(sales, Scope(), days) if deal.status == "won"]
    open_deals = sum(deal.status == "open" for deal in sales.deals)
    rate = Fraction(len(won), len(closed(sales, Scope(), days)))
    average = Fraction(sum(deal.base_minor for deal, _ in won), len(won))
    cycle = Fraction(sum((at - deal.created_at) // timedelta(microseconds=1) for deal, at in won), len(won))
    daily = open_deals * rate * average / (cycle / 86_400_000_000)
    assert total.daily_minor == rounded(daily.numerator, daily.denominator)
    assert total.cycle_days == pytest.approx(float(cycle) / 86_400_000_000)
    assert Outcome(open=3).daily_minor is None
    assert Outcome(won=1, won_minor=5, open=3).daily_minor is None


async def test_lost_reasons_are_what_a_recount_says(sales: Sales) -> None:
    days = Days.of(TODAY - timedelta(days=500), TODAY, today=TODAY)
    for scope in (Scope(), Scope(owner_id=sales.owners[1])):
        lost = [deal for deal, _ in closed(sales, scope, days) if deal.status == "lost"]
        counted = Counter(deal.lost_reason for deal in lost)
        async with sales.selling.session() as session:
            found = await losing.read(session, days, scope, limit=50)
            first = await losing.read(session, days, scope, limit=1)
        assert {one.reason: one.deals for one in found.reasons} == counted
        assert [one.deals for one in found.reasons] == sorted(counted.values(), reverse=True)
        assert sum(one.minor for one in found.reasons) == found.minor == sum(deal.base_minor for deal in lost)
        assert (first.reasons, first.deals) == (found.reasons[:1], len(lost))


async def test_stays_end_somewhere_and_are_counted_there(selling: Selling) -> None:
    stages = await selling.pipeline()
    other = await selling.pipeline("partners")
    begun = datetime.now(UTC) - timedelta(days=2)
    one, two, three, four, five = [await selling.deal(stages["new"], created_at=begun) for _ in range(5)]
    await selling.move([one, two, three], stages["offer"])
    await selling.move([two], stages["new"])
    await selling.move([one], stages["won"])
    await selling.move([one], stages["offer"])
    await selling.move([one], stages["won"])
    await selling.move([three], stages["lost"])
    await selling.move([four], other["offer"], pipeline_id=other["offer"].pipeline_id)
    days = Days.of(None, None, today=TODAY)
    async with selling.session() as session:
        new, offer, won, lost = await conversion.read(session, stages["new"].pipeline_id, days)
        [there] = [one for one in await conversion.read(session, other["new"].pipeline_id, days) if one.entered]
        today = Days.of(TODAY, TODAY, today=TODAY)
        assert (await conversion.read(session, stages["new"].pipeline_id, today))[0].entered == 1
        with pytest.raises(NotFoundError):
            await conversion.read(session, new_id(), days)
    assert went(new) == (6, 3, 0, 0, 1, 2)
    assert (new.deals, new.deals_won, new.deals_lost) == (5, 1, 1)
    assert went(offer) == (4, 2, 1, 1, 0, 0)
    assert (offer.deals, offer.deals_won) == (3, 1)
    assert went(won) == (2, 0, 1, 0, 0, 1)
    assert went(lost) == (1, 0, 0, 0, 0, 1)
    assert went(there) == (1, 0, 0, 0, 0, 1)
    lasted = [
        (stay.left_at - stay.entered_at) / SECOND
        for deal in (one, two, three, four, five)
        for stay in await selling.stays(deal)
        if stay.stage_id == new.id and stay.left_at is not None
    ]
    assert len(lasted) == 4
    assert new.median_seconds == pytest.approx(median(lasted))
    assert new.mean_seconds == pytest.approx(mean(lasted))
    assert lost.median_seconds is lost.mean_seconds is None


def went(passage: Passage) -> tuple[int, ...]:
    each = (passage.moved_on, passage.back, passage.lost, passage.elsewhere, passage.still)
    assert sum(each) == passage.entered
    return (passage.entered, *each)


def test_halves_are_rounded_away_from_zero() -> None:
    assert [rounded(minor, 2) for minor in (0, 1, 2, 3)] == [0, 1, 1, 2]
    assert [rounded(minor, 12) for minor in (5, 6, 7)] == [0, 1, 1]
    assert len(Months.of(TODAY, TODAY, today=TODAY).starts) == 1
