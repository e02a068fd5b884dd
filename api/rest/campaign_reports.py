"""What came of campaigns."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.rest.campaign_shapes import RunOut
from api.routing import Router
from services.marketing.outcomes import testing

router = Router(tags=["campaigns"])

WRITE = [requires("campaigns:write")]

Occurrence = Annotated[str, Field(max_length=100)]


class Winner(Strict):
    """The variant that the rest of an audience is to get."""

    variant: Annotated[StrictInt, Field(ge=0, le=9)]
    occurrence: Occurrence | None = None
    """Of a recurring campaign, which run; the oldest without a winner unless given."""


@router.post("/campaigns/{campaign_id}/winner", dependencies=WRITE)
async def choose(campaign_id: UUID, body: Winner, session: SessionDep, actor: ActorDep) -> RunOut:
    """Choose the winner of a running A/B test by hand; the rest of the audience gets it at once."""
    run = await testing.choose(session, campaign_id, body.variant, occurrence=body.occurrence, by=actor)
    return RunOut.of(run)
