"""Members who stay at a node until a call has ended: what the relay tells their workflows, and the way out."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, Table, Uuid, and_, bindparam, case, cast, func, literal, or_, select, text
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import String

from core.database import TenantSession
from journeys import members as member_sets
from models import OutgoingCall
from services.journeys import endings
from services.journeys.members import ENROLLMENT, CohortMembers, movable

CALL: Table = OutgoingCall.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here

# The body of a journey's call names the enrollment, its key the passage too.
_WAITING: Final = text("""
    SELECT e.cohort_id, e.slot, e.node, e.visit
    FROM outgoing_call c
    JOIN enrollment e ON e.tenant_id = :tenant AND e.id = CAST(c.body ->> 'enrollment_id' AS uuid)
    WHERE c.tenant_id = :tenant AND c.id = :call AND e.ended_at IS NULL
      AND c.source_key = concat('journey:', e.id, ':', e.node, ':', e.visit)
""").bindparams(bindparam("call", type_=Uuid))


async def tell(session: TenantSession, call_id: UUID) -> None:
    """Owe the workflow of whoever stays for the end of this call the news that it has ended."""
    for row in await session.execute(_WAITING, {"tenant": session.tenant_id, "call": call_id}):
        await endings.owe(session, "matched", {row.cohort_id: 1 << row.slot}, node=row.node, visit=row.visit)


def ended(tenant_id: UUID, node: str, visit: int) -> tuple[Any, tuple[ColumnElement[Any], ColumnElement[Any]]]:
    """Return the join with calls of this passage that have ended, and the columns `outcome` and `detail`."""
    key = func.concat("journey:", cast(ENROLLMENT.c.id, String), literal(f":{node}:{visit}"))
    join = ENROLLMENT.join(
        CALL,
        and_(
            CALL.c.tenant_id == tenant_id,
            CALL.c.source_key == key,
            or_(CALL.c.status == "delivered", CALL.c.status == "failed"),
        ),
    )
    return join, (
        case((CALL.c.status == "delivered", "done"), else_="failed").label("outcome"),
        func.jsonb_build_object("call_id", CALL.c.id, "answer", CALL.c.answer).label("detail"),
    )


async def staying(session: TenantSession, members: CohortMembers, node: str, visit: int) -> int:
    """Return those of these members who stand at the passage and may move, locked: nobody takes them elsewhere now."""
    slots = await session.scalars(
        select(cast(ENROLLMENT.c.slot, Integer))
        .where(*members.within(ENROLLMENT), *movable(ENROLLMENT, node, visit), members.journey_runs())
        .order_by(ENROLLMENT.c.id)
        .with_for_update(of=ENROLLMENT)
    )
    return member_sets.from_slots(slots.all())
