"""What came of campaigns."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Money, Strict
from api.rest.campaign_shapes import RunOut
from api.routing import Router
from services.marketing.outcomes import report, testing

router = Router(tags=["campaigns"])

READ = [requires("campaigns:read")]
WRITE = [requires("campaigns:write")]

Occurrence = Annotated[str, Field(max_length=100)]


class Winner(Strict):
    """The variant that the rest of an audience is to get."""

    variant: Annotated[StrictInt, Field(ge=0, le=9)]
    occurrence: Occurrence | None = None
    """Of a recurring campaign, which run; the oldest without a winner unless given."""


class FiguresOut(Strict):
    """Each message is in one of `excluded`, `queued`, `sent`, `failed` and `in_doubt`: together the audience."""

    audience: int
    excluded: dict[str, int]
    """By reason."""
    queued: int
    sent: int
    """All that a server took, whatever became of it."""
    delivered: int
    """Of those sent, what did not come back."""
    opened: int
    """By a person, each message once."""
    clicked: int
    machine_opened: int
    """By privacy proxies and scanners; in nothing else."""
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


class VariantFigures(FiguresOut):
    """What came of one variant."""

    variant: int


class ReportOut(FiguresOut):
    """What came of a campaign."""

    spend: Money
    roi: float | None
    """Revenue without spend, for each unit spent; null where nothing was."""
    budget: Money | None
    budget_left: Money | None
    variants: list[VariantFigures]
    """The figures of those who were given a variant."""
    runs: list[RunOut]
    """With how its test was decided."""


@router.get("/campaigns/{campaign_id}/report", dependencies=READ)
async def show(
    campaign_id: UUID, session: SessionDep, occurrence: Annotated[str | None, Query(max_length=100)] = None
) -> ReportOut:
    """Return what came of a campaign, or of one occurrence, as it stands now."""
    found = await report.of(session, campaign_id, occurrence=occurrence)
    code, spent, budget = found.currency, found.spend_minor, found.campaign.budget_minor
    return ReportOut(
        **_figures(found.total, code),
        spend=Money.of(spent, code),
        roi=(found.total.brought[code] - spent) / spent if spent else None,
        budget=None if budget is None else Money.of(budget, code),
        budget_left=None if budget is None else Money.of(budget - spent, code),
        variants=[VariantFigures(variant=number, **_figures(each, code)) for number, each in enumerate(found.variants)],
        runs=[RunOut.of(run) for run in found.runs],
    )


def _figures(figures: report.Figures, code: str) -> dict[str, Any]:
    counts = {name: getattr(figures, name) for name in FiguresOut.model_fields if not name.startswith("revenue")}
    brought = {each: Money.of(minor, each) for each, minor in sorted(figures.brought.items())}
    return counts | {"revenue": Money.of(figures.brought[code], code), "revenue_by_currency": brought}


@router.post("/campaigns/{campaign_id}/winner", dependencies=WRITE)
async def choose(campaign_id: UUID, body: Winner, session: SessionDep, actor: ActorDep) -> RunOut:
    """Choose the winner of a running A/B test by hand; the rest of the audience gets it at once."""
    run = await testing.choose(session, campaign_id, body.variant, occurrence=body.occurrence, by=actor)
    return RunOut.of(run)
