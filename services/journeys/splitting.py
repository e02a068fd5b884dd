"""The node that splits: by chance for newcomers, and for whoever came by before as they went then."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, Text, bindparam, case, cast, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY, BIT
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys.arms import ARM, PLACES, Shared, SplitNode, bounds
from journeys.members import Members
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.moving import Leaving, move, standing
from services.journeys.onward import STEP
from services.journeys.steps import Step, StepOutcome


def place(journey_id: UUID, node: str) -> ColumnElement[int]:
    """Return where chance puts the subjects of enrollments at a node, as `journeys.arms.place_of` has it."""
    named = func.concat(f"{journey_id}:", cast(ENROLLMENT.c.subject_id, Text), f":{node}")
    digits = func.concat("x", func.left(func.md5(named), 8))
    return cast(cast(cast(digits, BIT(32)), BigInteger) % PLACES, Integer)


def drawn(journey_id: UUID, node: str, parts: Sequence[Shared]) -> ColumnElement[str]:
    """Return the key of the part that chance gives to the subjects of enrollments, as `journeys.arms.chosen` has it."""
    where = place(journey_id, node)
    ends = zip(parts, bounds(parts), strict=True)
    return case(*((where < end, literal(part.key, Text)) for part, end in ends))


async def split(session: TenantSession, step: Step, members: CohortMembers, node: SplitNode) -> StepOutcome:
    """Part members; each step keeps the arm, and whether an earlier passage gave it."""
    journey_id = step.version.journey_id

    def leaving() -> Any:  # noqa: ANN401 - a select
        before = _before(session.tenant_id, journey_id, step.node, [ARM + arm.key for arm in node.arms])
        drawn_arm = func.concat(ARM, drawn(journey_id, step.node, node.arms))
        arm = func.coalesce(before.c.outcome, drawn_arm)
        detail = func.jsonb_build_object("arm", func.substr(arm, len(ARM) + 1), "again", before.c.outcome.is_not(None))
        columns = arm.label("outcome"), detail.label("detail")
        return standing(members, *step.passage, *columns).select_from(ENROLLMENT.join(before, true(), isouter=True))

    how = Leaving(*step.passage, how=("split",), select=leaving)
    moved: dict[str, Members] = await move(session, step.version, members, how, attempt=step.attempt)
    return StepOutcome(outcomes=moved)


def _before(tenant_id: UUID, journey_id: UUID, node: str, arms: list[str]) -> Any:  # noqa: ANN401 - a lateral
    """Return the lateral with the arm of those still there that an enrollment's subject took last at this node."""
    earlier = ENROLLMENT.alias("earlier")
    # By LIMIT, as plain joins become a hash of all the steps there are where the statistics lag behind.
    taken = (
        select(STEP.c.outcome, STEP.c.left_at)
        .where(
            STEP.c.tenant_id == tenant_id,
            STEP.c.enrollment_id == earlier.c.id,
            STEP.c.node == node,
            STEP.c.outcome == func.any(bindparam(None, arms, type_=ARRAY(Text))),
        )
        .order_by(STEP.c.visit.desc())
        .limit(1)
        .correlate(earlier)
        .lateral("taken")
    )
    return (
        select(taken.c.outcome)
        .select_from(earlier.join(taken, true()))
        .where(
            earlier.c.tenant_id == tenant_id,
            earlier.c.subject_id == ENROLLMENT.c.subject_id,
            earlier.c.subject_type == ENROLLMENT.c.subject_type,
            earlier.c.journey_id == journey_id,
        )
        .order_by(taken.c.left_at.desc())
        .limit(1)
        .correlate(ENROLLMENT)
        .lateral("before")
    )
