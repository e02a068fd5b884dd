"""The limited nodes of a journey: who waits before them, and at which rate they pass."""

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import Page
from api.rest.journeys import JourneyPath
from api.routing import Router
from core.errors import InvalidError
from journeys.durations import Duration
from journeys.pacing import MAX_COUNT, MINUTE, Rate, window
from services.journeys import journeys, rate_limits
from services.journeys.rate_limits import Limited

router = Router(prefix="/journeys", tags=["journeys"])

Count = Annotated[int | None, Field(ge=1, le=MAX_COUNT)]
NodePath = Annotated[str, Path(max_length=64, description="A node of type rate_limit")]


class NewRate(Strict):
    """A rate: `per_minute`, or `count` with `per`."""

    per_minute: Count = None
    count: Count = None
    per: Annotated[str | None, Field(max_length=40, examples=["PT1S", "PT1H", "P1D"])] = None
    """From one second to 31 days."""


class RateLimit(Strict):
    """A limited node as it stands."""

    node: str
    count: int
    per_seconds: float
    """At most `count` pass in any stretch of so many seconds."""
    by_hand: bool
    """Whether the rate was changed by hand; else it is the published version's."""
    waiting: int
    held: int
    """Before it, and paused or parked: they keep nobody waiting."""
    waiting_since: datetime | None
    passed: int
    """In the last `per_seconds`."""
    clear_at: datetime | None
    """When the last who waits now will have passed, at this rate."""


@router.get("/{journey}/rate-limits", dependencies=[requires("journeys:read")])
async def index(journey: JourneyPath, session: SessionDep) -> Page[RateLimit]:
    """List the nodes that limit a rate, with their backlogs; all on one page."""
    found = await rate_limits.listing(session, await journeys.find(session, journey))
    return Page(items=[_shown(each) for each in found], next_cursor=None)


@router.put("/{journey}/rate-limits/{node}", dependencies=[requires("journeys:write")])
async def change(
    journey: JourneyPath, node: NodePath, body: NewRate, session: SessionDep, actor: ActorDep
) -> RateLimit:
    """Change the rate at once, for those who wait too; it holds, whatever is published, until it is taken back."""
    found = await journeys.find(session, journey)
    return _shown(await rate_limits.change(session, found, node, _rate(body), by=actor))


@router.delete("/{journey}/rate-limits/{node}", dependencies=[requires("journeys:write")])
async def reset(journey: JourneyPath, node: NodePath, session: SessionDep, actor: ActorDep) -> RateLimit:
    """Take the rate back to the published version's."""
    found = await journeys.find(session, journey)
    return _shown(await rate_limits.change(session, found, node, None, by=actor))


def _rate(body: NewRate) -> Rate:
    if (body.per_minute is None) == (body.count is None):
        raise InvalidError.of("per_minute", "give either per_minute, or count with per")
    if body.per_minute is not None:
        if body.per is not None:
            raise InvalidError.of("per", "goes with count")
        return Rate(body.per_minute, MINUTE)
    if body.count is None or body.per is None:
        raise InvalidError.of("per", "goes with count, and is missing")
    try:
        return Rate(body.count, window(Duration.parse(body.per)))
    except ValueError as error:
        raise InvalidError.of("per", str(error)) from error


def _shown(limited: Limited) -> RateLimit:
    return RateLimit(
        node=limited.node,
        count=limited.rate.count,
        per_seconds=limited.rate.per.total_seconds(),
        by_hand=limited.by_hand,
        waiting=limited.waiting,
        held=limited.held,
        waiting_since=limited.waiting_since,
        passed=limited.passed,
        clear_at=limited.clear_at,
    )
