"""Runs of journeys that are stuck: those that were found, and giving their members another workflow."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.journeys import JourneyPath
from api.routing import Router
from services.journeys import journeys, stuck

router = Router(prefix="/journeys", tags=["journeys"])


class StuckRun(Strict):
    """Members who entered together, and whose workflow does not bring them on."""

    cohort_id: UUID
    version_id: UUID
    version: int
    stuck: Literal["closed", "gone", "still"]
    """`closed`: the workflow is over. `gone`: there is none. `still`: it runs, and members who are due do not move."""
    since: datetime
    """When it was found so."""
    workflow_id: str
    """Its name in Temporal."""
    members: int
    nodes: dict[str, int]
    """Where they stand."""


class Mend(Strict):
    """What to mend."""

    cohort_id: UUID | None = None
    """One run; all without."""


class Mended(Strict):
    """What was mended."""

    runs: int
    members: int
    left: int
    """Runs that are stuck still: a request ends after 20,000 members."""


@router.get("/{journey}/stuck", dependencies=[requires("journeys:read")])
async def list_stuck(
    journey: JourneyPath, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[StuckRun]:
    """List the runs that were found stuck, the oldest first."""
    found = await journeys.find(session, journey)
    after = decode_cursor(cursor, [UUID])[0] if cursor else None
    rows = await stuck.page(session, found.id, after=after, limit=limit + 1)
    items = [StuckRun.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(items[-1].cohort_id) if len(rows) > limit else None)


@router.post("/{journey}/stuck/mend", dependencies=[requires("journeys:write")])
async def mend_stuck(journey: JourneyPath, session: SessionDep, actor: ActorDep, body: Mend | None = None) -> Mended:
    """Have the members of runs that are stuck go on from where they stand, in another workflow."""
    found = await journeys.find(session, journey)
    asked = body or Mend()
    return Mended.model_validate(await stuck.mend_known(session, found, asked.cohort_id, by=actor))
