"""What is held of a journey, who fell due while it was, and taking people out of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Select, Table, and_, case, false, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from journeys.nodes import SendNode
from models import Cohort, Event, Journey, JourneyVersion
from services.journeys import endings, versions
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT
from services.journeys.passing import LATE
from services.shared import activity

EVENT: Table = Event.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here

What = Literal["all", "entry", "sends"]
"""What of a journey is held, or goes on."""
Overdue = Literal["send", "skip", "exit"]
"""What becomes of those who fell due meanwhile."""
SWITCHES: Final[dict[What, str]] = {"entry": "entry_paused", "sends": "sends_paused"}
"""The columns of the parts that are held apart from the whole."""
LATENESS: Final = {"hour": 3_600, "day": 86_400, "week": 604_800}
"""Seconds by which they are at most late who are counted so; whoever is later still is `longer`."""


@dataclass(slots=True)
class Late:
    """Members at one node who would have gone on by now."""

    node: str
    members: int
    due_from: datetime
    """When the first of them was due."""
    due_until: datetime
    late: dict[str, int]
    """How many by at most an `hour`, a `day`, a `week`, and how many `longer`; counted once each."""


def paused(journey: Journey, part: What) -> bool:
    """Whether the entry, or what it sends, is held apart from the whole."""
    return bool(getattr(journey, SWITCHES[part]))


def inside(session: TenantSession, journey_id: UUID, members: Any = ENROLLMENT) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - a table or an alias
    """Return the predicates of those who are in the journey now, which its cohorts' index leads to."""
    cohorts = select(Cohort.id).where(Cohort.tenant_id == session.tenant_id, Cohort.journey_id == journey_id)
    return (
        members.c.tenant_id == session.tenant_id,
        members.c.cohort_id.in_(cohorts),
        members.c.ended_at.is_(None),
    )


async def overdue(session: TenantSession, journey_id: UUID) -> list[Late]:
    """Return who would have gone on by now, by node: what `resume` decides about. Parked members are none of them."""
    due = _late(session, journey_id).subquery()
    seconds = func.extract("epoch", func.now() - due.c.due)
    how_late = case(*((seconds <= limit, name) for name, limit in LATENESS.items()), else_="longer")
    late = select(due, how_late.label("how")).subquery()
    counted = (
        select(late.c.node, late.c.how, func.count(), func.min(late.c.due), func.max(late.c.due))
        .group_by(late.c.node, late.c.how)
        .order_by(late.c.node)
    )
    found: dict[str, Late] = {}
    for node, how, members, due_from, due_until in await session.execute(counted):
        known = found.get(node)
        if known is None:
            known = found[node] = Late(node, 0, due_from, due_until, dict.fromkeys([*LATENESS, "longer"], 0))
        known.late[how] = members
        known.members += members
        known.due_from, known.due_until = min(known.due_from, due_from), max(known.due_until, due_until)
    return list(found.values())


async def settle(session: TenantSession, journey: Journey, what: What, how: Overdue) -> int:
    """Decide, before the journey goes on, about those who are overdue; return how many are not simply sent to."""
    if how == "send":
        return 0
    late = _late(session, journey.id, at=await _sending(session, journey.id) if what == "sends" else None).subquery()
    them = ENROLLMENT.c.id.in_(select(late.c.id))
    if how == "exit":
        return await endings.end(session, them, status="exited", reason=LATE)
    skipping = (
        update(ENROLLMENT)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.ended_at.is_(None), them)
        .values(skip="sends")
        .returning(ENROLLMENT.c.slot)
        .cte("skipping")
    )
    return await session.scalar(select(func.count()).select_from(skipping)) or 0


def _late(
    session: TenantSession, journey_id: UUID, *, at: Sequence[tuple[UUID, Sequence[str]]] | None = None
) -> Select[*tuple[Any, ...]]:
    """Return the members who are due: at a node that acts, after their wait, or as their event has come."""
    member = ENROLLMENT.alias("member")
    here = and_(
        WAITER.c.tenant_id == session.tenant_id,
        WAITER.c.enrollment_id == member.c.id,
        WAITER.c.node == member.c.node,
        WAITER.c.visit == member.c.visit,
    )
    came = and_(EVENT.c.tenant_id == session.tenant_id, EVENT.c.id == WAITER.c.matched_event_id)
    listens = WAITER.c.enrollment_id.is_not(None)
    acts = case((and_(member.c.status == "active", ~listens), member.c.node_entered_at))
    due = func.coalesce(EVENT.c.received_at, member.c.wake_at, acts, type_=DateTime(timezone=True))
    found = (
        select(member.c.id, member.c.node, due.label("due"))
        .select_from(member.join(WAITER, here, isouter=True).join(EVENT, came, isouter=True))
        .where(*inside(session, journey_id, member), member.c.status != "failed", ~member.c.paused, due <= func.now())
    )
    if at is not None:
        of_version = [and_(member.c.version_id == version, member.c.node.in_(nodes)) for version, nodes in at]
        found = found.where(or_(false(), *of_version))
    return found


async def _sending(session: TenantSession, journey_id: UUID) -> list[tuple[UUID, list[str]]]:
    """Return the nodes that send, by version."""
    ids = await session.scalars(
        select(JourneyVersion.id).where(
            JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey_id
        )
    )
    found: list[tuple[UUID, list[str]]] = []
    for version_id in ids:
        nodes = (await versions.load(session, version_id)).definition.nodes
        found.append((version_id, [name for name, node in nodes.items() if isinstance(node, SendNode)]))
    return [(version_id, names) for version_id, names in found if names]


async def eject(session: TenantSession, journey: Journey, *, reason: str, node: str | None, by: Actor) -> int:
    """Take everybody out who is in the journey now, or at one node of it; others may go on entering.

    Raises:
        InvalidError: no version of the journey has such a node.
    """
    which = and_(*inside(session, journey.id))
    if node is not None:
        await known_node(session, journey.id, node)
        which = and_(which, ENROLLMENT.c.node == node)
    ended = await endings.end(session, which, status="exited", reason=reason)
    changes: dict[str, tuple[Any, Any]] = {"ejected": (None, ended), "reason": (None, reason)}
    await activity.record(
        session,
        by=by,
        subject_type="journey",
        subject_id=journey.id,
        type="journey.ejected",
        changes=changes if node is None else {**changes, "node": (None, node)},
    )
    return ended


async def known_node(session: TenantSession, journey_id: UUID, node: str) -> None:
    """Refuse a node that no published version has.

    Raises:
        InvalidError: there is no such node.
    """
    nodes = func.jsonb_extract_path(JourneyVersion.definition, "nodes", node, type_=JSONB)
    has = select(JourneyVersion.id).where(
        JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey_id, nodes.is_not(None)
    )
    if await session.scalar(has.limit(1)) is None:
        raise InvalidError.of("node", "no published version has a node of this name")
