"""How sales went: how deals pass through stages, how many are won, how fast, and why not."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query

from api.dependencies import SessionDep, requires
from api.fields import Strict
from api.rest.deal_answers import Sum
from api.rest.sales_shapes import (
    AskedDays,
    AskedOutcomes,
    AskedReasons,
    AskedVelocity,
    OfWhomOut,
    ordered,
    whom,
)
from api.routing import Router
from core.database import TenantSession
from services.crm.reports import conversion, losing, outcomes
from services.crm.reports.conversion import Passage
from services.crm.reports.figures import share
from services.crm.reports.outcomes import Outcome
from services.crm.reports.periods import Days
from services.crm.reports.scope import Grouping, Scope

router = Router()


READ = [requires("deals:read")]
READ_PIPELINE = [requires("pipelines:read"), requires("deals:read")]


class PeriodOut(Strict):
    """Days of UTC, both included."""

    first: date
    last: date


class PassageOut(Strict):
    """What became of deals that came into a stage in the period."""

    stage_id: UUID
    stage: str
    """Its key."""
    name: str
    kind: Literal["open", "won", "lost"]
    probability: int
    """What the stage says; compare `win_rate`."""
    deleted: bool
    entered: int
    """Stays that began; each is in one of the next five."""
    moved_on: int
    """To a later stage of the pipeline, or a won one."""
    back: int
    """To an earlier stage, or to an open one from where deals are over."""
    lost: int
    elsewhere: int
    """To another pipeline."""
    still: int
    """Not left yet."""
    conversion: float | None
    """`moved_on` of `entered`; null of nothing, as all shares."""
    median_seconds: float | None
    """How long stays lasted that are over."""
    mean_seconds: float | None
    deals: int
    """Deals that came in, each once."""
    deals_won: int
    """Of these, those won by now."""
    deals_lost: int
    win_rate: float | None
    """`deals_won` of those that are over."""


class ConversionOut(Strict):
    """How deals pass through a pipeline."""

    period: PeriodOut
    stages: list[PassageOut]


class WonShareOut(Strict):
    """How many deals were won of those that closed, and what they are worth in the base currency."""

    won: int
    lost: int
    rate: float | None
    """Won of all that closed."""
    won_amount: Sum
    lost_amount: Sum
    amount_rate: float | None
    """The same by worth."""


class RateItemOut(WonShareOut, OfWhomOut):
    """Those of a group."""

    month: str | None


class WinRateOut(Strict):
    """How many deals are won."""

    currency: str
    period: PeriodOut
    group_by: list[Grouping]
    items: list[RateItemOut]
    total: WonShareOut


class SpeedOut(Strict):
    """What the open deals bring a day, if they go as those went that closed in the period."""

    open: int
    """Deals open now."""
    won: int
    lost: int
    win_rate: float | None
    average_won: Sum | None
    """What a won deal was worth, rounded."""
    cycle_days: float | None
    """How long a won deal took from its beginning, on average."""
    per_day: Sum | None
    """`open` x `win_rate` x `average_won` / `cycle_days`, exactly, rounded once; null where no deal was won, or
    those that were took no time."""


class SpeedItemOut(SpeedOut, OfWhomOut):
    """That of a group."""


class VelocityOut(Strict):
    """How fast deals are won."""

    currency: str
    period: PeriodOut
    group_by: list[Grouping]
    items: list[SpeedItemOut]
    total: SpeedOut


class LostReasonOut(Strict):
    """Deals that were lost for a reason."""

    reason: str | None
    """As it was written; null of those without one."""
    deals: int
    share: float | None
    """Of all lost deals."""
    amount: Sum


class LostReasonsOut(Strict):
    """Why deals were lost."""

    currency: str
    period: PeriodOut
    items: list[LostReasonOut]
    """The most frequent first."""
    deals: int
    """All lost ones, those of reasons not listed too."""
    amount: Sum


DaysDep = Annotated[AskedDays, Query()]
OutcomesDep = Annotated[AskedOutcomes, Query()]
VelocityDep = Annotated[AskedVelocity, Query()]
ReasonsDep = Annotated[AskedReasons, Query()]


@router.get("/pipelines/{pipeline_id}/conversion", tags=["pipelines"], dependencies=READ_PIPELINE)
async def get_conversion(pipeline_id: UUID, session: SessionDep, asked: DaysDep) -> ConversionOut:
    """Return where deals went from each stage they came into in some days, and how long they stayed."""
    days = asked.days()
    found = await conversion.read(session, pipeline_id, days, owner_id=asked.owner_id)
    return ConversionOut(period=_period(days), stages=[_passage(passage) for passage in found])


@router.get("/pipelines/{pipeline_id}/win-rate", tags=["pipelines"], dependencies=READ_PIPELINE)
async def get_win_rate(pipeline_id: UUID, session: SessionDep, asked: OutcomesDep) -> WinRateOut:
    """Return how many of a pipeline's deals were won of those that closed in some days."""
    return await _win_rate(session, asked, pipeline_id)


@router.get("/deals/win-rate", tags=["deals"], dependencies=READ)
async def get_win_rate_of_all(session: SessionDep, asked: OutcomesDep) -> WinRateOut:
    """Return how many deals were won of those that closed in some days."""
    return await _win_rate(session, asked, None)


@router.get("/pipelines/{pipeline_id}/velocity", tags=["pipelines"], dependencies=READ_PIPELINE)
async def get_velocity(pipeline_id: UUID, session: SessionDep, asked: VelocityDep) -> VelocityOut:
    """Return what a pipeline's open deals bring a day, going by those that closed in some days."""
    return await _velocity(session, asked, pipeline_id)


@router.get("/deals/velocity", tags=["deals"], dependencies=READ)
async def get_velocity_of_all(session: SessionDep, asked: VelocityDep) -> VelocityOut:
    """Return what open deals bring a day, going by those that closed in some days."""
    return await _velocity(session, asked, None)


@router.get("/pipelines/{pipeline_id}/lost-reasons", tags=["pipelines"], dependencies=READ_PIPELINE)
async def get_lost_reasons(pipeline_id: UUID, session: SessionDep, asked: ReasonsDep) -> LostReasonsOut:
    """Return why a pipeline's deals were lost that closed in some days."""
    return await _lost_reasons(session, asked, pipeline_id)


@router.get("/deals/lost-reasons", tags=["deals"], dependencies=READ)
async def get_lost_reasons_of_all(session: SessionDep, asked: ReasonsDep) -> LostReasonsOut:
    """Return why deals were lost that closed in some days."""
    return await _lost_reasons(session, asked, None)


async def _win_rate(session: TenantSession, asked: AskedOutcomes, pipeline_id: UUID | None) -> WinRateOut:
    days, by = asked.days(), ordered(asked.group_by)
    scope = Scope(pipeline_id=pipeline_id, owner_id=asked.owner_id)
    found = await outcomes.read(session, days, scope, by=by)
    code = found.base_currency
    return WinRateOut(
        currency=code,
        period=_period(days),
        group_by=by,
        items=[
            RateItemOut(**whom(group), month=group.month and f"{group.month:%Y-%m}", **_rate(found.items[group], code))
            for group in sorted(found.items, key=lambda group: group.order)
        ],
        total=WonShareOut(**_rate(found.total, code)),
    )


async def _velocity(session: TenantSession, asked: AskedVelocity, pipeline_id: UUID | None) -> VelocityOut:
    days, by = asked.days(), ordered(asked.group_by)
    scope = Scope(pipeline_id=pipeline_id, owner_id=asked.owner_id)
    found = await outcomes.read(session, days, scope, by=by, with_open=True)
    code = found.base_currency
    return VelocityOut(
        currency=code,
        period=_period(days),
        group_by=by,
        items=[
            SpeedItemOut(**whom(group), **_speed(found.items[group], code))
            for group in sorted(found.items, key=lambda group: group.order)
        ],
        total=SpeedOut(**_speed(found.total, code)),
    )


async def _lost_reasons(session: TenantSession, asked: AskedReasons, pipeline_id: UUID | None) -> LostReasonsOut:
    days = asked.days()
    scope = Scope(pipeline_id=pipeline_id, owner_id=asked.owner_id)
    found = await losing.read(session, days, scope, limit=asked.limit)
    code = found.base_currency
    return LostReasonsOut(
        currency=code,
        period=_period(days),
        items=[
            LostReasonOut(
                reason=one.reason, deals=one.deals, share=share(one.deals, found.deals), amount=Sum.of(one.minor, code)
            )
            for one in found.reasons
        ],
        deals=found.deals,
        amount=Sum.of(found.minor, code),
    )


def _period(days: Days) -> PeriodOut:
    return PeriodOut(first=days.first, last=days.last)


def _passage(passage: Passage) -> PassageOut:
    alike = {name: getattr(passage, name) for name in PassageOut.model_fields if hasattr(passage, name)}
    return PassageOut(
        **alike,
        stage_id=passage.id,
        stage=passage.key,
        conversion=share(passage.moved_on, passage.entered),
        win_rate=share(passage.deals_won, passage.deals_won + passage.deals_lost),
    )


def _rate(outcome: Outcome, code: str) -> dict[str, Any]:
    return {
        "won": outcome.won,
        "lost": outcome.lost,
        "rate": share(outcome.won, outcome.won + outcome.lost),
        "won_amount": Sum.of(outcome.won_minor, code),
        "lost_amount": Sum.of(outcome.lost_minor, code),
        "amount_rate": share(outcome.won_minor, outcome.won_minor + outcome.lost_minor),
    }


def _speed(outcome: Outcome, code: str) -> dict[str, Any]:
    average, daily = outcome.average_minor, outcome.daily_minor
    return {
        "open": outcome.open,
        "won": outcome.won,
        "lost": outcome.lost,
        "win_rate": share(outcome.won, outcome.won + outcome.lost),
        "average_won": None if average is None else Sum.of(average, code),
        "cycle_days": outcome.cycle_days,
        "per_day": None if daily is None else Sum.of(daily, code),
    }
