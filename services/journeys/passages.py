"""Reading enrollments: where people are in a journey, how they came there, and the counts per node."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, tuple_

from core.database import TenantSession
from core.errors import NotFoundError
from models import Cohort, Enrollment, EnrollmentStep
from services.identity import aliases
from services.journeys import refusals


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A node passed, or the one where the person stands (without outcome) or ended."""

    node: str
    visit: int
    outcome: str | None
    entered_at: datetime
    left_at: datetime | None
    attempt: int | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """How many came to a node and what became of them."""

    entered: int
    waiting: int
    """Standing there now, parked ones aside."""
    left: Mapping[str, int]
    """By outcome."""
    failed: int
    """Parked there now."""


@dataclass(frozen=True, slots=True)
class JourneyStats:
    """A journey in counts, over all its versions."""

    enrollments: Mapping[str, int]
    """By status."""
    reasons: Mapping[str, int]
    """Of those ended, by reason."""
    nodes: Mapping[str, NodeCounts]
    refused: Mapping[str, int]
    """How often somebody was not let in, by reason."""


async def get(session: TenantSession, enrollment_id: UUID) -> Enrollment:
    """Return an enrollment.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    found = await session.get(Enrollment, {"tenant_id": session.tenant_id, "id": enrollment_id})
    if found is None:
        raise NotFoundError(f"there is no enrollment {enrollment_id}")
    return found


async def steps_of(session: TenantSession, enrollment: Enrollment) -> list[StepTaken]:
    """Return the passage, oldest first; last comes the node where the person stands, or the exit that ended it."""
    return (await steps_of_many(session, [enrollment]))[enrollment.id]


async def steps_of_many(session: TenantSession, enrollments: Collection[Enrollment]) -> dict[UUID, list[StepTaken]]:
    """Return the passages, by enrollment, each as `steps_of` does."""
    rows = await session.scalars(
        select(EnrollmentStep)
        .where(
            EnrollmentStep.tenant_id == session.tenant_id,
            EnrollmentStep.enrollment_id.in_([enrollment.id for enrollment in enrollments]),
        )
        .order_by(EnrollmentStep.left_at, EnrollmentStep.entered_at, EnrollmentStep.visit)
    )
    passed: dict[UUID, list[StepTaken]] = {enrollment.id: [] for enrollment in enrollments}
    for row in rows:
        passed[row.enrollment_id].append(
            StepTaken(row.node, row.visit, row.outcome, row.entered_at, row.left_at, row.attempt, row.detail)
        )
    return {enrollment.id: [*passed[enrollment.id], _standing(enrollment)] for enrollment in enrollments}


def _standing(enrollment: Enrollment) -> StepTaken:
    return StepTaken(
        node=enrollment.node,
        visit=enrollment.visit,
        outcome=enrollment.reason if enrollment.ended_at else None,
        entered_at=enrollment.node_entered_at,
        left_at=enrollment.ended_at,
        detail=enrollment.problem,
    )


async def page(  # noqa: PLR0913 - the filters of one list
    session: TenantSession,
    journey_id: UUID,
    *,
    status: str | None = None,
    node: str | None = None,
    person_id: UUID | None = None,
    deal_id: UUID | None = None,
    after: tuple[UUID, int] | None = None,
    limit: int,
) -> Sequence[Enrollment]:
    """Return enrollments of a journey in the order of entry, after the (cohort, slot) given."""
    query = (
        select(Enrollment)
        .where(Enrollment.tenant_id == session.tenant_id, Enrollment.journey_id == journey_id)
        .order_by(Enrollment.cohort_id, Enrollment.slot)
        .limit(limit)
    )
    if deal_id is not None:
        query = query.where(Enrollment.subject_type == "deal", Enrollment.subject_id == deal_id)
    if person_id is not None:
        query = query.where(Enrollment.subject_id == await aliases.living(session, person_id))
    if person_id is None and deal_id is None:  # through the cohorts, whose index leads to the page without a sort
        cohorts = select(Cohort.id).where(Cohort.tenant_id == session.tenant_id, Cohort.journey_id == journey_id)
        query = query.where(Enrollment.cohort_id.in_(cohorts))
    if status is not None:
        query = query.where(Enrollment.status == status)
    if node is not None:
        query = query.where(Enrollment.node == node)
    if after is not None:
        query = query.where(tuple_(Enrollment.cohort_id, Enrollment.slot) > after)
    return (await session.scalars(query)).all()


_LEFT = text("""
SELECT s.node, s.outcome, count(*) AS members
FROM enrollment_step s JOIN enrollment e ON e.tenant_id = s.tenant_id AND e.id = s.enrollment_id
WHERE s.tenant_id = :tenant AND e.tenant_id = :tenant AND e.journey_id = :journey
GROUP BY s.node, s.outcome
""")


async def stats(session: TenantSession, journey_id: UUID) -> JourneyStats:
    """Return the counts of a journey, as Postgres has them now."""
    standing = await session.execute(
        select(
            Enrollment.node,
            Enrollment.status,
            Enrollment.reason,
            Enrollment.ended_at.is_(None).label("inside"),
            func.count().label("members"),
        )
        .where(Enrollment.tenant_id == session.tenant_id, Enrollment.journey_id == journey_id)
        .group_by(Enrollment.node, Enrollment.status, Enrollment.reason, Enrollment.ended_at.is_(None))
    )
    left = await session.execute(_LEFT, {"tenant": session.tenant_id, "journey": journey_id})
    statuses: dict[str, int] = {}
    reasons: dict[str, int] = {}
    waiting: dict[str, int] = {}
    failed: dict[str, int] = {}
    here: dict[str, int] = {}
    outcomes: dict[str, dict[str, int]] = {}
    for row in standing:
        statuses[row.status] = statuses.get(row.status, 0) + row.members
        here[row.node] = here.get(row.node, 0) + row.members
        if not row.inside:
            reasons[row.reason or ""] = reasons.get(row.reason or "", 0) + row.members
        else:
            counts = failed if row.status == "failed" else waiting
            counts[row.node] = counts.get(row.node, 0) + row.members
    for row in left:
        outcomes.setdefault(row.node, {})[row.outcome] = row.members
    return JourneyStats(
        enrollments=statuses,
        reasons=reasons,
        nodes={
            node: NodeCounts(
                entered=here.get(node, 0) + sum(outcomes.get(node, {}).values()),
                waiting=waiting.get(node, 0),
                left=outcomes.get(node, {}),
                failed=failed.get(node, 0),
            )
            for node in sorted({*here, *outcomes})
        },
        refused=await refusals.counts(session, journey_id),
    )
