"""The node that lets its members into another journey, by that one's rules."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, and_, case, func, literal, select
from sqlalchemy import cast as sql_cast

from core.database import TenantSession
from journeys.command_nodes import EnrollNode
from models import Journey
from services.journeys import enrollments, versions
from services.journeys.enrollments import Candidate
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.onward import Detail
from services.journeys.steps import Step
from services.journeys.subjects import surroundings
from services.journeys.versions import LoadedVersion

MAX_DEPTH: Final = 10
"""Journeys that let into each other, or into themselves, go no deeper."""

Rows = Sequence[Any]


async def enroll(session: TenantSession, step: Step, members: CohortMembers, node: EnrollNode) -> Mapping[UUID, Detail]:
    """Let members into the node's journey; the step's detail says who was not let in, and why."""
    rows = await _rows(session, step, members)
    target = await session.scalar(
        select(Journey).where(Journey.tenant_id == session.tenant_id, Journey.key == node.journey)
    )
    if target is None or target.active_version_id is None:
        return {row.id: _skipped(node, "not_open") for row in rows}
    version = await versions.load(session, target.active_version_id)
    details: dict[UUID, Detail] = {}
    entering: dict[UUID, tuple[UUID, Candidate]] = {}
    for row in rows:
        subject_id, reason = _subject(row, step, version)
        entry = {"enrolled": {"journey": row.journey, "enrollment_id": str(row.id), "depth": row.depth + 1}}
        key = enrollments.key_of(version.definition.by_api, entry)
        if subject_id is None:
            details[row.id] = _skipped(node, reason)
        elif row.depth >= MAX_DEPTH:
            details[row.id] = _skipped(node, "too_deep")
        elif key is None:
            details[row.id] = _skipped(node, "no_key")
        elif subject_id in entering:
            details[row.id] = _skipped(node, "repeated")
        else:
            entering[subject_id] = row.id, Candidate(subject_id=subject_id, entry=entry, entry_key=key)
    candidates = [candidate for _, candidate in entering.values()]
    again = version.definition.by_api.again
    done = await enrollments.enroll(session, version, candidates, again=again, source="journey")
    for subject_id, (enrollment_id, _) in entering.items():
        reason = done.reasons.get(subject_id)
        details[enrollment_id] = {"journey": node.journey} if reason is None else _skipped(node, reason)
    return details


def _skipped(node: EnrollNode, reason: str) -> Detail:
    return {"journey": node.journey, "skipped": reason}


def _subject(row: Any, step: Step, version: LoadedVersion) -> tuple[UUID | None, str]:  # noqa: ANN401 - a row
    """Return who is to enter, or why nobody can."""
    if version.definition.subject == "person":
        return row.person_id, "no_person"
    return (row.subject_id if step.version.definition.subject == "deal" else None), "no_deal"


async def _rows(session: TenantSession, step: Step, members: CohortMembers) -> Rows:
    around = surroundings(step.version.definition, session.tenant_id)
    depth = ENROLLMENT.c.entry["enrolled"]["depth"]
    of_journey = and_(Journey.tenant_id == session.tenant_id, Journey.id == literal(step.version.journey_id))
    found = await session.execute(
        select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.subject_id,
            around.person_id.label("person_id"),
            Journey.key.label("journey"),
            case(
                (func.jsonb_typeof(depth) == "number", sql_cast(depth.astext, Integer)),
                else_=0,
            ).label("depth"),
        )
        .select_from(around.source.join(Journey, of_journey))
        .where(*members.within(ENROLLMENT))
        .order_by(ENROLLMENT.c.slot)
    )
    return found.all()
