"""What chance gives each passage: an arm of a split, unless its person took one before, or a variant of a message."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, Text, case, cast, func, literal, select, true
from sqlalchemy.dialects.postgresql import BIT, distinct_on
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys import members as member_sets
from journeys.arms import ARM, PLACES, Shared, SplitNode, bounds
from journeys.sending import VARIANT, SendNode
from models import JourneyTest
from services.journeys.members import ENROLLMENT
from services.journeys.onward import STEP
from services.journeys.simulation.passages import PASSAGE


async def arms(session: TenantSession, journey_id: UUID, name: str, node: SplitNode, subject: str) -> dict[str, int]:
    """Return the passages by the outcome by which they leave the node `name`."""
    drawn = _drawn(journey_id, name, node.arms, ARM)
    before = _before(session.tenant_id, journey_id, name, node, subject)
    arm: ColumnElement[str] = func.coalesce(before.c.outcome, drawn, type_=Text)
    rows = await session.execute(
        select(arm.label("arm"), func.array_agg(PASSAGE.c.slot).label("slots"))
        .select_from(PASSAGE.join(before, before.c.subject_id == PASSAGE.c.subject_id, isouter=True))
        .group_by(arm)
    )
    return {row.arm: member_sets.from_slots(row.slots) for row in rows}


async def variants(session: TenantSession, journey_id: UUID, name: str, node: SendNode) -> dict[str, int]:
    """Return the passages by the outcome by which they leave the node `name`, all by the variant that won."""
    won = await session.scalar(
        select(JourneyTest.winner).where(
            JourneyTest.tenant_id == session.tenant_id,
            JourneyTest.journey_id == journey_id,
            JourneyTest.node == name,
            JourneyTest.tried == node.tried,
        )
    )
    drawn = _drawn(journey_id, name, node.variants or (), VARIANT)
    outcome = drawn if won is None or node.winner is None else literal(VARIANT + won, Text)
    rows = await session.execute(
        select(outcome.label("outcome"), func.array_agg(PASSAGE.c.slot).label("slots")).group_by(outcome)
    )
    return {row.outcome: member_sets.from_slots(row.slots) for row in rows}


def place(journey_id: UUID, name: str) -> ColumnElement[int]:
    """Return where chance puts each passage's subject at the node `name`, as `journeys.arms.place_of`."""
    named = func.concat(f"{journey_id}:", cast(PASSAGE.c.subject_id, Text), f":{name}")
    digits = func.concat("x", func.left(func.md5(named), 8))
    return cast(cast(cast(digits, BIT(32)), BigInteger) % PLACES, Integer)


def _drawn(journey_id: UUID, name: str, parts: Sequence[Shared], prefix: str) -> ColumnElement[str]:
    """Return the outcome that chance gives each passage at the node `name`."""
    at = place(journey_id, name)
    return case(*((at < end, literal(prefix + part.key, Text)) for part, end in zip(parts, bounds(parts), strict=True)))


def _before(tenant_id: UUID, journey_id: UUID, name: str, node: SplitNode, subject: str) -> Any:  # noqa: ANN401 - a subquery
    """Return which of the arms that are still there the subjects really took last."""
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
        .where(*of_journey, ENROLLMENT.c.subject_type == subject)
        .ext(distinct_on(ENROLLMENT.c.subject_id))
        .order_by(ENROLLMENT.c.subject_id, taken.c.left_at.desc())
        .subquery("before")
    )
