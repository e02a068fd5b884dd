"""Members who pass a node without its doing: parked ones somebody lets go on, and late ones at what sends."""

from typing import Any

from sqlalchemy import Text, case, delete, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from core.database import TenantSession
from journeys.nodes import SKIPPED
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT, CohortMembers, present
from services.journeys.moving import Leaving, move
from services.journeys.versions import LoadedVersion

LATE = "overdue"


async def past(
    session: TenantSession, version: LoadedVersion, passage: tuple[str, int], members: CohortMembers, *, attempt: int
) -> dict[str, int]:
    """Move those of the members on who are to skip the passage (node, visit); the step's detail says why."""
    node, visit = passage
    here = (*members.within(ENROLLMENT), *present(ENROLLMENT, node, visit), members.passing(), members.journey_runs())
    await session.execute(
        delete(WAITER).where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == ENROLLMENT.c.id,
            WAITER.c.node == node,
            WAITER.c.visit == visit,
            *here,
        )
    )

    def leaving() -> Any:  # noqa: ANN401 - a select
        error = func.jsonb_build_object("skipped", "by_hand", "error", ENROLLMENT.c.problem["error"], type_=JSONB)
        late = func.jsonb_build_object("not_sent", LATE, type_=JSONB)
        return select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.slot,
            ENROLLMENT.c.node_entered_at,
            literal(SKIPPED, Text).label("outcome"),
            case((ENROLLMENT.c.skip == "sends", late), else_=error).label("detail"),
        ).where(*here)

    how = Leaving(node, visit, how=("past", members.sends), select=leaving, skipped=True)
    return await move(session, version, members, how, attempt=attempt)
