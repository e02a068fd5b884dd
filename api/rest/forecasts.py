"""What deals will bring, of one pipeline and of all."""

from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Query
from pydantic import Field

from api.dependencies import SessionDep, requires
from api.fields import Strict
from api.rest.deal_answers import Sum
from api.rest.sales_shapes import AskedMonths, OfWhomOut, first_day, ordered, whom
from api.routing import Router
from core.database import TenantSession
from services.crm import rates
from services.crm.reports import forecast
from services.crm.reports.figures import rounded
from services.crm.reports.forecast import FINER, Apart, Figures, Forecast, Item
from services.crm.reports.periods import Months
from services.crm.reports.scope import Group, Grouping, Scope

router = Router()

READ = [requires("deals:read")]
READ_PIPELINE = [requires("pipelines:read"), requires("deals:read")]


class OpenOut(Strict):
    """What open deals are worth together, in the base currency."""

    deals: int
    amount: Sum
    weighted: Sum
    """Each weighed by its own probability, else its stage's."""
    mrr: Sum
    """What recurs, by month."""
    arr: Sum
    """By year."""
    weighted_mrr: Sum
    weighted_arr: Sum

    @classmethod
    def of(cls, figures: Figures, code: str) -> Self:
        """Return the answer; each sum is rounded once."""
        return cls(
            deals=figures.deals,
            amount=Sum.of(figures.minor, code),
            weighted=Sum.of(rounded(figures.weighted, 100), code),
            mrr=Sum.of(rounded(figures.arr, 12 * FINER), code),
            arr=Sum.of(rounded(figures.arr, FINER), code),
            weighted_mrr=Sum.of(rounded(figures.weighted_arr, 1200 * FINER), code),
            weighted_arr=Sum.of(rounded(figures.weighted_arr, 100 * FINER), code),
        )


class WonOut(Strict):
    """What won deals are worth together, in the base currency, by the rates of the days they closed."""

    deals: int
    amount: Sum
    mrr: Sum
    arr: Sum

    @classmethod
    def of(cls, figures: Figures, code: str) -> Self:
        """Return the answer; each sum is rounded once."""
        return cls(
            deals=figures.deals,
            amount=Sum.of(figures.minor, code),
            mrr=Sum.of(rounded(figures.arr, 12 * FINER), code),
            arr=Sum.of(rounded(figures.arr, FINER), code),
        )


class ItemOut(OfWhomOut):
    """What falls into a month, or into the period."""

    month: str | None
    open: OpenOut
    """Deals expected to close in it, from today on."""
    won: WonOut
    """Deals that closed in it."""

    @classmethod
    def of(cls, group: Group, item: Item, code: str) -> Self:
        """Return the answer for a row."""
        month = None if group.month is None else f"{group.month:%Y-%m}"
        return cls(**whom(group), month=month, **_within(item, code))


class ApartOut(OfWhomOut):
    """Open deals that fall into no month of the period."""

    overdue: OpenOut
    """Expected to close before today."""
    undated: OpenOut
    """Without `close_date`."""
    outside: OpenOut
    """Expected from today on, but before the first month or after the last."""

    @classmethod
    def of(cls, group: Group, apart: Apart, code: str) -> Self:
        """Return the answer for a row."""
        return cls(**whom(group), **_beside(apart, code))


class TotalOut(Strict):
    """All rows together. Every open deal is in one of `open`, `overdue`, `undated` and `outside`."""

    open: OpenOut
    won: WonOut
    overdue: OpenOut
    undated: OpenOut
    outside: OpenOut


class ForecastOut(Strict):
    """What deals will bring, and what those won in the period brought."""

    currency: str
    """The base currency, which all sums are in."""
    since: Annotated[str, Field(serialization_alias="from")]
    until: str
    group_by: list[Grouping]
    today: date
    """The UTC day it is told from."""
    items: list[ItemOut]
    """By month, pipeline and owner; rows with nothing in them are left out, but for months alone."""
    apart: list[ApartOut]
    total: TotalOut


AskedDep = Annotated[AskedMonths, Query()]


@router.get("/pipelines/{pipeline_id}/forecast", tags=["pipelines"], dependencies=READ_PIPELINE)
async def of_pipeline(pipeline_id: UUID, session: SessionDep, asked: AskedDep) -> ForecastOut:
    """Return what a pipeline's open deals will bring, by the month they are expected to close."""
    return await _forecast(session, asked, pipeline_id)


@router.get("/deals/forecast", tags=["deals"], dependencies=READ)
async def of_all(session: SessionDep, asked: AskedDep) -> ForecastOut:
    """Return what the open deals of all pipelines will bring, by the month they are expected to close."""
    return await _forecast(session, asked, None)


async def _forecast(session: TenantSession, asked: AskedMonths, pipeline_id: UUID | None) -> ForecastOut:
    today = rates.today()
    months = Months.of(first_day(asked.since), first_day(asked.until), today=today)
    by = ordered(asked.group_by)
    scope = Scope(pipeline_id=pipeline_id, owner_id=asked.owner_id)
    return _answer(await forecast.read(session, months, scope, by=by, today=today), months, by, today)


def _answer(found: Forecast, months: Months, by: list[Grouping], today: date) -> ForecastOut:
    code = found.base_currency
    groups = sorted(found.items, key=lambda group: group.order)
    others = sorted(found.apart, key=lambda group: group.order)
    return ForecastOut(
        currency=code,
        since=f"{months.starts[0]:%Y-%m}",
        until=f"{months.starts[-1]:%Y-%m}",
        group_by=by,
        today=today,
        items=[ItemOut.of(group, found.items[group], code) for group in groups],
        apart=[ApartOut.of(group, found.apart[group], code) for group in others],
        total=TotalOut(**_within(found.total, code), **_beside(found.total_apart, code)),
    )


def _within(item: Item, code: str) -> dict[str, Any]:
    return {"open": OpenOut.of(item.open, code), "won": WonOut.of(item.won, code)}


def _beside(apart: Apart, code: str) -> dict[str, Any]:
    return {name: OpenOut.of(getattr(apart, name), code) for name in ("overdue", "undated", "outside")}
