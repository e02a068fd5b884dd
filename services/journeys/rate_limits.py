"""The limited nodes of a journey: what their rates are, who waits before them, and a change of rate while they wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, bindparam, select, text, update
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from journeys.pacing import Rate, RateLimitNode
from models import Journey, JourneyRateLimit
from services.journeys import endings, pacing, versions
from services.journeys.members import ENROLLMENT
from services.shared import activity

_WAITING: Final = text("""
    SELECT t.node, count(*) FILTER (WHERE NOT e.paused AND e.status <> 'failed') AS waiting,
           count(*) FILTER (WHERE e.paused OR e.status = 'failed') AS held, min(e.node_entered_at) AS since
    FROM journey_rate_ticket t
    JOIN enrollment e ON e.tenant_id = :tenant AND e.id = t.enrollment_id AND e.node = t.node AND e.visit = t.visit
    WHERE t.tenant_id = :tenant AND t.journey_id = :journey AND e.ended_at IS NULL
    GROUP BY t.node
""").bindparams(bindparam("journey", type_=Uuid))


@dataclass(frozen=True, slots=True)
class Limited:
    """A node that limits a rate, as it stands."""

    node: str
    rate: Rate
    by_hand: bool
    """Whether the rate was changed by hand; else it is the published version's."""
    waiting: int
    held: int
    """Of those before it, who is paused or parked and keeps nobody else waiting."""
    waiting_since: datetime | None
    """Of the first in line."""
    passed: int
    """Within the last window."""
    clear_at: datetime | None
    """When the last who waits now will have passed, at this rate."""


async def listing(session: TenantSession, journey: Journey) -> list[Limited]:
    """Return the limited nodes of the published version, and those of older ones before which somebody waits."""
    waiting = await _waiting(session, journey.id)
    published = await _published(session, journey)
    return [
        await _shown(session, journey, node, published.get(node), waiting) for node in sorted({*published, *waiting})
    ]


async def change(session: TenantSession, journey: Journey, node: str, rate: Rate | None, *, by: Actor) -> Limited:
    """Set the rate of a node by hand, or with None take it back to the published version's; who waits is told anew.

    Raises:
        NotFoundError: the journey has no such node.
    """
    waiting = await _waiting(session, journey.id)
    published = (await _published(session, journey)).get(node)
    if published is None and node not in waiting:
        raise NotFoundError(f"the journey has no node {node} that limits a rate")
    line = await pacing.hold(session, journey.id, node, published)
    own = update(JourneyRateLimit).where(
        JourneyRateLimit.tenant_id == session.tenant_id,
        JourneyRateLimit.journey_id == journey.id,
        JourneyRateLimit.node == node,
    )
    await session.execute(
        own.values(count=None, per=None) if rate is None else own.values(count=rate.count, per=rate.per)
    )
    shown = await _shown(session, journey, node, published, waiting)
    if shown.rate != line.rate or shown.by_hand != line.by_hand:
        changes = {"node": (None, node), "rate": (_text(line.rate), _text(shown.rate))}
        await activity.record(
            session, by=by, subject_type="journey", subject_id=journey.id, type="journey.rate_changed", changes=changes
        )
    if shown.rate != line.rate:
        await endings.replan(session, and_(ENROLLMENT.c.journey_id == journey.id, ENROLLMENT.c.node == node))
    return shown


async def _waiting(session: TenantSession, journey_id: UUID) -> Mapping[str, Any]:
    rows = await session.execute(_WAITING, {"tenant": session.tenant_id, "journey": journey_id})
    return {row.node: row for row in rows}


async def _published(session: TenantSession, journey: Journey) -> Mapping[str, RateLimitNode]:
    if journey.active_version_id is None:
        return {}
    nodes = (await versions.load(session, journey.active_version_id)).definition.nodes
    return {name: node for name, node in nodes.items() if isinstance(node, RateLimitNode)}


async def _shown(
    session: TenantSession,
    journey: Journey,
    node: str,
    published: RateLimitNode | None,
    waiting: Mapping[str, Any],
) -> Limited:
    set_by_hand = await session.execute(
        select(JourneyRateLimit.count.label("most"), JourneyRateLimit.per).where(
            JourneyRateLimit.tenant_id == session.tenant_id,
            JourneyRateLimit.journey_id == journey.id,
            JourneyRateLimit.node == node,
        )
    )
    own = set_by_hand.one_or_none()
    by_hand = own is not None and own.most is not None
    if own is not None and own.most is not None:
        rate = Rate(own.most, own.per)
    else:
        rate = await pacing.rate_of(session, journey.id, node, published)
    values = {"tenant": session.tenant_id, "journey": journey.id, "node": node}
    plan = await pacing.planned(session, values, rate)
    line = waiting.get(node)
    ahead = 0 if line is None else line.waiting
    return Limited(
        node=node,
        rate=rate,
        by_hand=by_hand,
        waiting=ahead,
        held=0 if line is None else line.held,
        waiting_since=None if line is None else line.since,
        passed=rate.count - plan.free,
        clear_at=plan.turn_of(ahead - 1) if ahead else None,
    )


def _text(rate: Rate) -> str:
    return f"{rate.count} in {rate.per}"
