"""The forecast says what counting all deals again in plain Python says, and reads what it needs by indexes."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import TypeVar

import pytest

from core.database import Database
from core.errors import InvalidError, NotFoundError
from core.ids import new_id
from models import Deal
from services.crm import rates
from services.crm.reports import forecast
from services.crm.reports.figures import rounded
from services.crm.reports.forecast import FINER, Apart, Figures, Forecast, Item
from services.crm.reports.periods import Days, Months
from services.crm.reports.scope import Group, Grouping, Scope
from tests.factories.selling import Selling
from tests.services.crm.random_sales import Sales, sold

TODAY = rates.today()
Row = TypeVar("Row", Item, Apart)


@pytest.fixture(scope="module")
async def sales(database: Database) -> Sales:
    """What was sold at random; no test changes it."""
    return await sold(database, seed=7, today=TODAY)


def recounted(sales: Sales, months: Months, scope: Scope, by: set[Grouping]) -> Forecast:
    """The forecast, one deal after the other."""
    found = Forecast("EUR", {}, {}, Item(), Apart())
    if by == {"month"}:
        found.items.update({Group(month=month): Item() for month in months.starts})
    for deal in sales.deals:
        if scope.pipeline_id not in {None, deal.pipeline_id} or scope.owner_id not in {None, deal.owner_id}:
            continue
        day = deal.close_date if deal.closed_at is None else deal.closed_at.astimezone(UTC).date()
        within = day is not None and months.starts[0] <= day < months.end
        figures = worth(sales, deal)
        if deal.status == "won" and within:
            add(found.items, found.total, key(sales, deal, by, day), "won", figures, Item)
        elif deal.status == "open" and day is not None and day >= TODAY and within:
            add(found.items, found.total, key(sales, deal, by, day), "open", figures, Item)
        elif deal.status == "open":
            place = "undated" if day is None else "overdue" if day < TODAY else "outside"
            add(found.apart, found.total_apart, key(sales, deal, by, None), place, figures, Apart)
    return found


def worth(sales: Sales, deal: Deal) -> Figures:
    percent = sales.percent(deal)
    arr = sales.arr(deal, TODAY) * FINER
    assert arr.denominator == 1
    return Figures(1, deal.base_minor, deal.base_minor * percent, int(arr), int(arr) * percent)


def key(sales: Sales, deal: Deal, by: set[Grouping], day: date | None) -> Group:
    pipeline = sales.stages[deal.stage_id].pipeline_key
    return Group(
        month=day.replace(day=1) if day is not None and "month" in by else None,
        owner_id=deal.owner_id if "owner" in by else None,
        pipeline_id=deal.pipeline_id if "pipeline" in by else None,
        pipeline=pipeline if "pipeline" in by else None,
    )


def add(rows: dict[Group, Row], total: Row, group: Group, name: str, figures: Figures, make: Callable[[], Row]) -> None:
    for row in (total, rows.setdefault(group, make())):
        getattr(row, name).add(figures)


async def test_a_forecast_is_what_a_recount_says(sales: Sales) -> None:
    everything = [Scope(), Scope(pipeline_id=sales.pipelines[0]), Scope(owner_id=sales.owners[1])]
    groupings: list[set[Grouping]] = [
        {"month"}, set(), {"owner"}, {"pipeline"}, {"month", "owner"}, {"month", "owner", "pipeline"}
    ]  # fmt: skip
    spans = [(None, None), (TODAY - timedelta(days=500), TODAY), (TODAY + timedelta(days=60), None)]
    for scope, by, span in product(everything, groupings, spans):
        months = Months.of(*span, today=TODAY)
        async with sales.selling.session() as session:
            found = await forecast.read(session, months, scope, by=by, today=TODAY)
        assert found == recounted(sales, months, scope, by), (scope, by, span)
        assert found.total.open.deals + found.total.won.deals > 0


async def test_every_open_deal_is_told_once(sales: Sales) -> None:
    async with sales.selling.session() as session:
        found = await forecast.read(session, Months.of(None, None, today=TODAY), Scope(), by=["month"], today=TODAY)
    told = [found.total.open, *(getattr(found.total_apart, name) for name in ("overdue", "undated", "outside"))]
    assert all(each.deals for each in told)
    open_deals = [deal for deal in sales.deals if deal.status == "open"]
    assert sum(each.deals for each in told) == len(open_deals)
    assert sum(each.minor for each in told) == sum(deal.base_minor for deal in open_deals)


async def test_months_are_of_utc_and_today_is_not_overdue(selling: Selling) -> None:
    stages = await selling.pipeline()
    first = (TODAY.replace(day=1) - timedelta(days=1)).replace(day=1)
    midnight = datetime(first.year, first.month, 1, tzinfo=UTC)
    for closed in (midnight, midnight - timedelta(microseconds=1)):
        await selling.deal(stages["won"], created_at=midnight - timedelta(days=3), closed_at=closed, amount_minor=5)
    for day in (TODAY, TODAY - timedelta(days=1)):
        await selling.deal(stages["new"], close_date=day, amount_minor=7)
    async with selling.session() as session:
        found = await forecast.read(session, Months.of(first, TODAY, today=TODAY), Scope(), by=["month"], today=TODAY)
    assert (found.items[Group(month=first)].won.deals, found.total.won.deals) == (1, 1)
    assert (found.total.open.deals, found.total_apart.overdue.deals) == (1, 1)


async def test_nothing_sold_makes_months_of_nothing(selling: Selling) -> None:
    stages = await selling.pipeline()
    months = Months.of(date(2026, 1, 1), date(2026, 3, 1), today=TODAY)
    async with selling.session() as session:
        found = await forecast.read(
            session, months, Scope(pipeline_id=stages["new"].pipeline_id), by=["month"], today=TODAY
        )
        assert found.items == {Group(month=date(2026, month, 1)): Item() for month in (1, 2, 3)}
        assert found.total == Item()
        by_owner = await forecast.read(session, months, Scope(), by=["owner"], today=TODAY)
        assert by_owner.items == by_owner.apart == {}
        with pytest.raises(NotFoundError):
            await forecast.read(session, months, Scope(pipeline_id=new_id()), by=[], today=TODAY)


async def test_the_largest_amounts_stay_exact(selling: Selling) -> None:
    stages = await selling.pipeline()
    for _ in range(20):
        await selling.deal(stages["new"], close_date=TODAY, amount_minor=rates.MAX_WORTH, probability=33)
    async with selling.session() as session:
        found = await forecast.read(session, Months.of(None, None, today=TODAY), Scope(), by=["month"], today=TODAY)
    assert found.total.open.minor == 20 * rates.MAX_WORTH
    assert rounded(found.total.open.weighted, 100) == (2 * 20 * rates.MAX_WORTH * 33 + 100) // 200


async def test_a_report_of_too_many_rows_is_refused(sales: Sales, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.crm.reports.forecast.MAX_ROWS", 8)
    monkeypatch.setattr("services.crm.reports.scope.MAX_ROWS", 8)
    months = Months.of(None, None, today=TODAY)
    async with sales.selling.session() as session:
        with pytest.raises(InvalidError) as refused:
            await forecast.read(session, months, Scope(), by=["month", "owner"], today=TODAY)
    assert refused.value.errors[0].field == "group_by"


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        (date(2026, 3, 1), date(2026, 2, 28), "until"),
        (date(2026, 3, 1), date(2031, 3, 1), "until"),
        (date(1969, 12, 31), None, "from"),
        (None, date(3000, 1, 1), "until"),
    ],
)
def test_periods_of_no_use_are_refused(first: date | None, last: date | None, field: str) -> None:
    for kind in (Months, Days):
        if kind is Days and last == date(2031, 3, 1):
            last = date(2036, 3, 10)
        with pytest.raises(InvalidError) as refused:
            kind.of(first, last, today=date(2026, 3, 5))
        assert refused.value.errors[0].field == field


def test_periods_without_bounds_are_about_now() -> None:
    today = date(2026, 11, 30)
    months = Months.of(None, None, today=today)
    assert (months.starts[0], len(months.starts), months.end) == (date(2026, 11, 1), 12, date(2027, 11, 1))
    assert Months.of(None, date(2025, 2, 3), today=today).starts == (date(2025, 2, 1),)
    assert len(Months.of(date(2026, 1, 1), date(2030, 12, 31), today=today).starts) == 60
    assert Months.of(date(2999, 12, 1), None, today=today).end == date(3000, 12, 1)
    days = Days.of(None, None, today=today)
    assert (days.first, days.last) == (date(2026, 9, 2), today)
    assert days.months() == [date(2026, month, 1) for month in (9, 10, 11)]
    assert Days.of(date(2027, 1, 1), None, today=today).last == date(2027, 1, 1)
