"""What came of campaigns."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Money, Strict
from api.rest.campaign_shapes import CampaignRunOut
from api.routing import Router
from core.currency import EXPONENTS
from services.marketing.outcomes import lift, report, testing

router = Router(tags=["campaigns"])

READ = [requires("campaigns:read")]
WRITE = [requires("campaigns:write")]

Occurrence = Annotated[str, Field(max_length=100)]


class Winner(Strict):
    """The variant that the rest of an audience is to get."""

    variant: Annotated[StrictInt, Field(ge=0, le=9)]
    occurrence: Occurrence | None = None
    """Of a recurring campaign, which run; the oldest without a winner unless given."""


class CampaignRatesOut(Strict):
    """Shares, null of nothing."""

    delivered: float | None
    """Of those sent."""
    opened: float | None
    """Of those delivered."""
    clicked: float | None
    """Of those delivered."""
    click_to_open: float | None
    """Clicked for each opened: above 1 where people click without loading pictures."""
    unsubscribed: float | None
    """Of those delivered."""
    bounced: float | None
    """Of those sent."""
    complained: float | None
    """Of those delivered."""


class GroupOut(Strict):
    """What recipients, or those held out, bought."""

    people: int
    buyers: int
    rate: float
    """Buyers of people."""
    orders: int
    revenue: Money
    """In the report's currency, without refunds."""


class DifferenceOut(Strict):
    """How much more than the holdout, and its interval."""

    difference: float
    low: float
    high: float


class LiftOut(Strict):
    """What it brought beyond what would have been bought anyway."""

    since: datetime
    until: datetime
    """Orders placed between these count."""
    confidence: float
    """Of the intervals."""
    recipients: GroupOut
    """All who were meant to get it, sent or not."""
    holdout: GroupOut
    buyers: DifferenceOut
    """Of the share of buyers."""
    p: float
    """How probable such a difference of buyers is by chance."""
    revenue_per_person: DifferenceOut
    """In units of the report's currency."""
    method: str


class FiguresOut(Strict):
    """Each message is in one of `excluded`, `queued`, `sent`, `failed` and `in_doubt`: together the audience."""

    audience: int
    excluded: dict[str, int]
    """By reason."""
    queued: int
    put_off: int
    """Of those queued, what a server refused for now, or could not be reached for; each message's `reason` says why."""
    sent: int
    """All that a server took, whatever became of it."""
    delivered: int
    """Of those sent, what did not come back."""
    opened: int
    """By a person, each message once."""
    clicked: int
    machine_opened: int
    """By privacy proxies and scanners; in nothing else."""
    machine_clicked: int
    """By scanners; in nothing else."""
    unsubscribed: int
    bounced: int
    complained: int
    failed: int
    in_doubt: int
    """May have been sent: the answer was lost."""
    orders: int
    """Credited to it by last touch."""
    revenue: Money
    """In the report's currency; orders in others are in `revenue_by_currency` alone."""
    revenue_by_currency: dict[str, Money]
    rates: CampaignRatesOut


class VariantFigures(FiguresOut):
    """What came of one variant."""

    variant: int


class ReportedLinkOut(Strict):
    """How often what leads to one address was followed."""

    url: str | None
    """Without the token it was followed by and without `utm_` parameters; null: of people erased since."""
    people: int
    """Who followed it, each once."""
    clicks: int
    machine_clicks: int
    """By scanners; in neither of the others."""


class ReportOut(FiguresOut):
    """What came of a campaign."""

    spend: Money
    roi: float | None
    """Revenue without spend, for each unit spent; null where nothing was."""
    budget: Money | None
    budget_left: Money | None
    lift: LiftOut | None
    """Against its holdout; null without one, and of several runs together."""
    variants: list[VariantFigures]
    """The figures of those who were given a variant."""
    runs: list[CampaignRunOut]
    """With how its test was decided."""
    links: list[ReportedLinkOut]
    """Those followed by the most people first, 100 at most."""


@router.get("/campaigns/{campaign_id}/report", dependencies=READ)
async def show(
    campaign_id: UUID, session: SessionDep, occurrence: Annotated[str | None, Query(max_length=100)] = None
) -> ReportOut:
    """Return what came of a campaign, or of one occurrence, as it stands now."""
    return answer(await report.of(session, campaign_id, occurrence=occurrence))


def answer(found: report.Report) -> ReportOut:
    """Return the answer for a report."""
    code, spent, budget = found.currency, found.spend_minor, found.campaign.budget_minor
    return ReportOut(
        **_figures(found.total, code),
        spend=Money.of(spent, code),
        roi=(found.total.brought[code] - spent) / spent if spent else None,
        budget=None if budget is None else Money.of(budget, code),
        budget_left=None if budget is None else Money.of(budget - spent, code),
        lift=None if found.lift is None else _lift(found.lift, code),
        variants=[VariantFigures(variant=number, **_figures(each, code)) for number, each in enumerate(found.variants)],
        runs=[CampaignRunOut.of(run) for run in found.runs],
        links=[
            ReportedLinkOut(url=each.url, people=each.people, clicks=each.clicks, machine_clicks=each.machine_clicks)
            for each in found.links
        ],
    )


def _figures(figures: report.Figures, code: str) -> dict[str, Any]:
    computed = {"revenue", "revenue_by_currency", "rates"}
    counts = {name: getattr(figures, name) for name in FiguresOut.model_fields if name not in computed}
    brought = {each: Money.of(minor, each) for each, minor in sorted(figures.brought.items())}
    money = {"revenue": Money.of(figures.brought[code], code), "revenue_by_currency": brought}
    return counts | money | {"rates": CampaignRatesOut(**figures.rates())}


def _lift(found: lift.Lift, code: str) -> LiftOut:
    unit = 10 ** EXPONENTS[code]
    buyers = found.buyers
    return LiftOut(
        since=found.since,
        until=found.until,
        confidence=found.confidence,
        recipients=_group(found.treated, code),
        holdout=_group(found.held_out, code),
        buyers=DifferenceOut(difference=buyers.difference, low=buyers.low, high=buyers.high),
        p=buyers.p_value,
        revenue_per_person=DifferenceOut(difference=found.mean / unit, low=found.low / unit, high=found.high / unit),
        method=lift.METHOD,
    )


def _group(group: lift.Group, code: str) -> GroupOut:
    return GroupOut(
        people=group.people,
        buyers=group.buyers,
        rate=group.buyers / group.people if group.people else 0.0,
        orders=group.orders,
        revenue=Money.of(group.minor, code),
    )


@router.post("/campaigns/{campaign_id}/winner", dependencies=WRITE)
async def choose(campaign_id: UUID, body: Winner, session: SessionDep, actor: ActorDep) -> CampaignRunOut:
    """Choose the winner of a running A/B test by hand; the rest of the audience gets it at once."""
    run = await testing.choose(session, campaign_id, body.variant, occurrence=body.occurrence, by=actor)
    return CampaignRunOut.of(run)
