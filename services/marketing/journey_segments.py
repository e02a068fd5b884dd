"""The nodes that put people into static segments, and take them out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from models import Segment
from services.journeys import steps
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.steps import Step, StepOutcome
from services.journeys.subjects import surroundings
from services.marketing.segments import membership

_Whose = Sequence[tuple[UUID, UUID | None]]
"""Enrollments, each with its person."""


async def add(session: TenantSession, step: Step, members: CohortMembers, node: AddToSegmentNode) -> StepOutcome:
    """Put the members' people into the segment; who is in it stays."""
    return await _keep(session, step, members, node)


async def remove(
    session: TenantSession, step: Step, members: CohortMembers, node: RemoveFromSegmentNode
) -> StepOutcome:
    """Take the members' people out of the segment; who is not in it stays out."""
    return await _keep(session, step, members, node)


async def _keep(
    session: TenantSession, step: Step, members: CohortMembers, node: AddToSegmentNode | RemoveFromSegmentNode
) -> StepOutcome:
    done = await steps.pass_through(session, step, members, "done")
    went = members.only(done.get("done", 0))
    if not went.mask:
        return StepOutcome(outcomes=done)
    whose = await _whose(session, step, went)
    segment = await session.scalar(
        select(Segment).where(
            Segment.tenant_id == session.tenant_id, Segment.key == node.segment, Segment.kind == "static"
        )
    )
    if segment is None:
        reason = {"refused": f"there is no static segment {node.segment}"}
        await steps.note(session, step, {enrollment_id: reason for enrollment_id, _ in whose})
        return StepOutcome(outcomes=done)
    people = sorted({person_id for _, person_id in whose if person_id is not None})
    by = Actor.journey(step.version.journey_id)
    if isinstance(node, AddToSegmentNode):
        changed = (await membership.add(session, segment, people, by=by)).entered
    else:
        changed = (await membership.remove(session, segment, people, by=by)).left
    await steps.note(session, step, _details(whose, {person_id for _, person_id in changed}))
    return StepOutcome(outcomes=done)


def _details(whose: _Whose, changed: Collection[UUID]) -> Mapping[UUID, Mapping[str, Any]]:
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
