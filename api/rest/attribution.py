"""What messages brought, worked out again."""

from typing import Annotated
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Instant, Strict
from api.routing import Router
from services.marketing.outcomes import attribution

router = Router(prefix="/attribution", tags=["campaigns"])

WRITE = [requires("campaigns:write")]


class Period(Strict):
    """Which orders, by when they were placed; all without bounds."""

    since: Annotated[Instant | None, Field(alias="from")] = None
    """Not before this."""
    until: Instant | None = None
    """Before this."""


class RecomputationOut(Strict):
    """A recomputation that was begun."""

    id: UUID
    """Of its workflow, `recompute_attribution/{tenant}/{id}`."""


@router.post("/recompute", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def recompute(body: Period, session: SessionDep, actor: ActorDep) -> RecomputationOut:
    """Credit orders anew, by the messages, merges and windows as they are now; it is done in the background."""
    return RecomputationOut(
        id=await attribution.recompute(session, since=body.since, until=body.until, by=actor),
    )
