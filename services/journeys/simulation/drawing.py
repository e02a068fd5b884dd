"""Which arm of a split each passage takes: the one that its person took before, else the one that chance gives."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, Text, case, cast, func, literal, select, true
from sqlalchemy.dialects.postgresql import BIT, distinct_on
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys import members as member_sets
from journeys.arms import ARM, PLACES, SplitNode, bounds
from services.journeys.members import ENROLLMENT
from services.journeys.moving import STEP
from services.journeys.simulation.passages import PASSAGE


async def arms(session: TenantSession, journey_id: UUID, name: str, node: SplitNode) -> dict[str, int]:
    """Return the passages by the outcome by which they leave the node `name`."""
    named = func.concat(f"{journey_id}:", cast(PASSAGE.c.person_id, Text), f":{name}")
    digits = func.concat("x", func.left(func.md5(named), 8))
    place = cast(cast(cast(digits, BIT(32)), BigInteger) % PLACES, Integer)
    ends = zip(node.arms, bounds(node.arms), strict=True)
    drawn = case(*((place < end, literal(ARM + arm.key, Text)) for arm, end in ends))
    before = _before(session.tenant_id, journey_id, name, node)
    arm: ColumnElement[str] = func.coalesce(before.c.outcome, drawn, type_=Text)
    rows = await session.execute(
        select(arm.label("arm"), func.array_agg(PASSAGE.c.slot).label("slots"))
        .select_from(PASSAGE.join(before, before.c.subject_id == PASSAGE.c.person_id, isouter=True))
        .group_by(arm)
    )
    return {row.arm: member_sets.from_slots(row.slots) for row in rows}


def _before(tenant_id: UUID, journey_id: UUID, name: str, node: SplitNode) -> Any:  # noqa: ANN401 - a subquery
    """Return which of the arms that are still there people really took last."""
    taken = (
        select(STEP.c.outcome, STEP.c.left_at)
        .where(
            STEP.c.tenant_id == tenant_id,
            STEP.c.enrollment_id == ENROLLMENT.c.id,
            STEP.c.node == name,
            STEP.c.outcome.in_([ARM + arm.key for arm in node.arms]),
        )
        .order_by(STEP.c.visit.desc())
        .limit(1)
        .correlate(ENROLLMENT)
        .lateral("taken")
    )
    of_journey = ENROLLMENT.c.tenant_id == tenant_id, ENROLLMENT.c.journey_id == journey_id
    return (
        select(ENROLLMENT.c.subject_id, taken.c.outcome)
        .select_from(ENROLLMENT.join(taken, true()))
        .where(*of_journey, ENROLLMENT.c.subject_type == "person")
        .ext(distinct_on(ENROLLMENT.c.subject_id))
        .order_by(ENROLLMENT.c.subject_id, taken.c.left_at.desc())
        .subquery("before")
    )
