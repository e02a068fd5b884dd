"""Waits until any of several things is so.

Looked at on arrival, with every event of the subject, and when time alone may change an answer.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import DateTime, Integer, and_, case, func, literal, null, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys.conditions import Condition, SegmentCondition
from journeys.durations import add
from journeys.evaluate import property_values
from journeys.waits import MET, ConditionWay, EventWay, SegmentWay, WaitUntilNode
from services.events.bus import EventRow
from services.journeys import hearing
from services.journeys.entering import WAITER
from services.journeys.members import ENROLLMENT, CohortMembers, movable
from services.journeys.moving import Leaving, move, standing
from services.journeys.subjects import surroundings
from services.journeys.versions import LoadedVersion
from services.journeys.waiting import Passage, Stay, reached
from services.shared.conditions_clock import next_change
from services.shared.conditions_sql import Scope, compile_condition

WAY: Final = "way"
"""In what a waiter keeps: which way an event opened."""
_A_MOMENT: Final = timedelta(seconds=1)


async def look(session: TenantSession, at: Passage, members: CohortMembers, node: WaitUntilNode) -> Stay:
    """Move on for whom something is so, or whose time is out; say when to look again at the others."""
    done = Stay()
    leaving: dict[str, int] = defaultdict(int)
    for row in await _rows(session, at, members, node):
        slot = 1 << row.slot
        end = add(row.node_entered_at, node.timeout)
        if row.way is not None:
            leaving[f"{MET}{row.way}"] |= slot
        elif end <= reached(row.now, row.wake_at):
            leaving["timed_out"] |= slot
        else:
            # Not at once again, however the clocks differ.
            again = end if row.changes is None else min(end, max(row.changes, row.now + _A_MOMENT))
            done.waits[again] = done.waits.get(again, 0) | slot
    for outcome, mask in sorted(leaving.items()):
        done.outcomes |= await _leave(session, at, members.only(mask), outcome)
    return done


async def _rows(session: TenantSession, at: Passage, members: CohortMembers, node: WaitUntilNode) -> Sequence[Any]:
    around = surroundings(at.version.definition, session.tenant_id)
    here = (*members.within(ENROLLMENT), *movable(ENROLLMENT, at.node, at.visit), members.journey_runs())
    of_member = _of_member(session, at)
    # Waiters before enrollments, as the relay and whoever ends passages lock them: nothing is marked from here on.
    await session.execute(
        select(func.count()).select_from(
            select(WAITER.c.slot)
            .join(ENROLLMENT, of_member)
            .where(WAITER.c.tenant_id == session.tenant_id, *here)
            .order_by(WAITER.c.enrollment_id)
            .with_for_update(of=WAITER)
            .subquery()
        )
    )
    marked = WAITER.c.match[WAY].as_integer()
    rows = await session.execute(
        select(
            ENROLLMENT.c.slot,
            ENROLLMENT.c.node_entered_at,
            ENROLLMENT.c.wake_at,
            func.now().label("now"),
            func.coalesce(marked, _way(node, around.scope)).label("way"),
            _changes(node, around.scope).label("changes"),
        )
        .select_from(around.source.join(WAITER, of_member, isouter=True))
        .where(*here)
    )
    return rows.all()


def _of_member(session: TenantSession, at: Passage) -> ColumnElement[bool]:
    """Return the condition that a waiter is that of an enrollment at this passage."""
    return and_(
        WAITER.c.tenant_id == session.tenant_id,
        WAITER.c.enrollment_id == ENROLLMENT.c.id,
        WAITER.c.node == at.node,
        WAITER.c.visit == at.visit,
    )


def conditions_of(node: WaitUntilNode) -> list[tuple[int, Condition]]:
    """Return what is asked of the subject, by the number of the way."""
    found: list[tuple[int, Condition]] = []
    for index, way in enumerate(node.ways):
        match way:
            case ConditionWay(when=when):
                found.append((index, when))
            case SegmentWay(segment=segment):
                found.append((index, SegmentCondition(in_segment=segment)))
            case EventWay():
                pass
    return found


def _way(node: WaitUntilNode, scope: Scope) -> ColumnElement[Any]:
    """Return the number of the first way whose condition holds; NULL where none does."""
    ways = [(compile_condition(when, scope), literal(index, Integer)) for index, when in conditions_of(node)]
    return case(*ways) if ways else null().cast(Integer)


def _changes(node: WaitUntilNode, scope: Scope) -> ColumnElement[Any]:
    """Return when a condition may next hold though nothing happens; NULL where that is never."""
    moments = [next_change(when, scope) for _, when in conditions_of(node)]
    known = [moment for moment in moments if moment is not None]
    kind = DateTime(timezone=True)
    return func.least(*known, type_=kind) if known else null().cast(kind)


async def _leave(session: TenantSession, at: Passage, members: CohortMembers, outcome: str) -> dict[str, int]:
    def leaving() -> Any:  # noqa: ANN401 - a select
        detail = case(
            (
                WAITER.c.matched_event_id.is_not(None),
                func.jsonb_build_object("event_id", WAITER.c.matched_event_id, type_=JSONB),
            ),
            else_=null(),
        )
        source = ENROLLMENT.join(WAITER, _of_member(session, at), isouter=True)
        columns = literal(outcome).label("outcome"), detail.label("detail")
        return standing(members, at.node, at.visit, *columns).select_from(source)

    how = Leaving(at.node, at.visit, how=("met", outcome), select=leaving, waits=True)
    return await move(session, at.version, members, how, attempt=at.attempt)


async def opened(
    session: TenantSession,
    version: LoadedVersion,
    node: WaitUntilNode,
    rows: Sequence[Any],
    events: Mapping[UUID, EventRow],
) -> dict[UUID, int]:
    """Return, of waiters at a node with the event that each of them hears, which way that opens, by enrollment."""
    found: dict[UUID, int] = await _by_condition(session, version, node, [row.enrollment_id for row in rows])
    for index, way in enumerate(node.ways):
        if not isinstance(way, EventWay):
            continue
        awaited = [row for row in rows if _matches(way, row.match.get(str(index)), events[row.event_id])]
        holding = await hearing.holding(session, way.where, [events[row.event_id] for row in awaited])
        for row in awaited:
            if row.event_id in holding:
                found[row.enrollment_id] = min(index, found.get(row.enrollment_id, index))
    return found


def _matches(way: EventWay, wanted: Any, event: EventRow) -> bool:  # noqa: ANN401 - JSON, None where the entry lacks it
    return event.type == way.event and wanted is not None and property_values(wanted, event.properties) == wanted


async def _by_condition(
    session: TenantSession, version: LoadedVersion, node: WaitUntilNode, enrollment_ids: Sequence[UUID]
) -> dict[UUID, int]:
    if not conditions_of(node) or not enrollment_ids:
        return {}
    around = surroundings(version.definition, session.tenant_id)
    way = _way(node, around.scope)
    rows = await session.execute(
        select(ENROLLMENT.c.id, way.label("way"))
        .select_from(around.source)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.id.in_(enrollment_ids), way.is_not(None))
    )
    return {row.id: row.way for row in rows}
