"""The nodes that put people into static segments, and take them out."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from models import Segment
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.onward import Detail
from services.journeys.steps import Step
from services.journeys.subjects import surroundings
from services.marketing.segments import membership

_Whose = Sequence[tuple[UUID, UUID | None]]
"""Enrollments, each with its person."""


async def keep(
    session: TenantSession, step: Step, members: CohortMembers, node: AddToSegmentNode | RemoveFromSegmentNode
) -> Mapping[UUID, Detail]:
    """Put the members' people into the segment, or take them out of it; who is where the node wants them stays."""
    whose = await _whose(session, step, members)
    segment = await session.scalar(
        select(Segment).where(
            Segment.tenant_id == session.tenant_id, Segment.key == node.segment, Segment.kind == "static"
        )
    )
    if segment is None:
        reason = {"refused": f"there is no static segment {node.segment}"}
        return {enrollment_id: reason for enrollment_id, _ in whose}
    people = sorted({person_id for _, person_id in whose if person_id is not None})
    by = Actor.journey(step.version.journey_id)
    if isinstance(node, AddToSegmentNode):
        changed = (await membership.add(session, segment, people, by=by)).entered
    else:
        changed = (await membership.remove(session, segment, people, by=by)).left
    return _details(whose, {person_id for _, person_id in changed})


def _details(whose: _Whose, changed: Collection[UUID]) -> Mapping[UUID, Detail]:
    """Return what the steps keep: of those alone for whom nothing changed."""
    return {
        enrollment_id: {"unchanged": True} if person_id is not None else {"refused": "no_person"}
        for enrollment_id, person_id in whose
        if person_id is None or person_id not in changed
    }


async def _whose(session: TenantSession, step: Step, members: CohortMembers) -> _Whose:
    around = surroundings(step.version.definition, session.tenant_id)
    rows = await session.execute(
        select(ENROLLMENT.c.id, around.person_id.label("person_id"))
        .select_from(around.source)
        .where(*members.within(ENROLLMENT))
    )
    return [(row.id, row.person_id) for row in rows]
