"""Members whose node failed for them, looked at and let go on by the thousand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, and_, func, select
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from core.actor import Actor
from core.database import TenantSession
from models import Journey
from services.journeys import endings
from services.journeys.holding import inside, known_node
from services.journeys.members import ENROLLMENT
from services.shared import activity

SHOWN = 5
"""Enrollments named of each group."""
GROUPS = 200

_ERROR = ENROLLMENT.c.problem["error"].astext


@dataclass(frozen=True, slots=True)
class Group:
    """Members parked at one node with one error."""

    node: str
    error: str
    members: int
    attempts: int
    """How often the node was tried for the one it was tried most for."""
    since: datetime
    """When the first of them came to the node."""
    enrollment_ids: Sequence[UUID]
    """The first few."""


async def groups(session: TenantSession, journey_id: UUID) -> list[Group]:
    """Return who is parked in a journey, by node and error, the most first; at most `GROUPS` of them."""
    each = (
        select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.node,
            ENROLLMENT.c.node_entered_at,
            func.coalesce(_ERROR, "").label("error"),
            func.coalesce(ENROLLMENT.c.problem["attempt"].astext.cast(Integer), 1).label("attempt"),
        )
        .where(*inside(session, journey_id), ENROLLMENT.c.status == "failed")
        .subquery()
    )
    first = func.array_agg(aggregate_order_by(each.c.id, each.c.id), type_=ARRAY(ENROLLMENT.c.id.type))
    members = func.count()
    rows = await session.execute(
        select(
            each.c.node,
            each.c.error,
            members,
            func.max(each.c.attempt),
            func.min(each.c.node_entered_at),
            first[1:SHOWN],
        )
        .group_by(each.c.node, each.c.error)
        .order_by(members.desc(), each.c.node, each.c.error)
        .limit(GROUPS)
    )
    return [Group(*row) for row in rows]


async def let_go(
    session: TenantSession,
    journey: Journey,
    how: Literal["retry", "skip"],
    *,
    node: str | None,
    error: str | None,
    by: Actor,
) -> int:
    """Try their node again for those who are parked, or have them pass it without its doing; return how many.

    Args:
        session: the tenant's.
        journey: whose members.
        how: `retry`, or `skip`: then they go on as after the node, a branch's `otherwise`, a wait's end.
        node: only those who are parked there.
        error: only those whose error has this in it, capitals or not.
        by: who does it.

    Raises:
        InvalidError: no version of the journey has such a node.
    """
    which: ColumnElement[bool] = and_(*inside(session, journey.id))
    changes: dict[str, tuple[Any, Any]] = {}
    if node is not None:
        await known_node(session, journey.id, node)
        which = and_(which, ENROLLMENT.c.node == node)
        changes["node"] = None, node
    if error is not None:
        which = and_(which, func.strpos(func.lower(_ERROR), error.lower()) > 0)
        changes["error"] = None, error
    done = await (endings.retry if how == "retry" else endings.skip)(session, which)
    verb = "journey.parked_retried" if how == "retry" else "journey.parked_skipped"
    await activity.record(
        session,
        by=by,
        subject_type="journey",
        subject_id=journey.id,
        type=verb,
        changes={"members": (None, done), **changes},
    )
    return done
