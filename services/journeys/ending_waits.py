"""Events at work on waits: who waits for them is marked, which decides their race with the timer.

An event is told to those who wait for its type, and to those who hear every event (`ANY_EVENT`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Text, Uuid, and_, any_, bindparam, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys.evaluate import property_values
from journeys.waits import WaitForEventNode, WaitUntilNode
from services.events.bus import EventRow
from services.journeys import endings, hearing, meeting, versions
from services.journeys.entering import ANY_EVENT, WAITER
from services.journeys.listening import Entry

_Marks = list[tuple[Any, dict[str, Any]]]
"""Waiters with their event, and what is kept with them."""


async def waited_types(session: TenantSession, types: Iterable[str]) -> set[str]:
    """Return which of these types somebody waits for; all of them where somebody hears every event."""
    types = sorted(types)
    asked = (
        func.unnest(bindparam("types", [ANY_EVENT, *types], type_=ARRAY(Text)))
        .table_valued("type")
        .render_derived(name="asked")
    )
    # The first in the index's order: asked only whether there is one, Postgres may read all who wait.
    first = (
        select(WAITER.c.slot)
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.event_type == asked.c.type,
            WAITER.c.matched_event_id.is_(None),
        )
        .order_by(WAITER.c.subject_id)
        .limit(1)
        .lateral("first")
    )
    found = set((await session.scalars(select(asked.c.type).join_from(asked, first, true()))).all())
    return set(types) if ANY_EVENT in found else found


async def waited_from_start(
    session: TenantSession, entries: Mapping[str, Sequence[Entry]], types: Iterable[str]
) -> set[str]:
    """Return the types, of these, that whoever enters in this batch may wait for at once."""
    found: set[str] = set()
    for version_id in {entry.version_id for heard in entries.values() for entry in heard}:
        definition = (await versions.load(session, version_id)).definition
        start = definition.nodes[definition.start]
        if isinstance(start, WaitForEventNode):
            found.add(start.event)
        elif isinstance(start, WaitUntilNode):
            found |= set(types)
    return found


def _hears(given: Any) -> ColumnElement[bool]:  # noqa: ANN401 - of `hearing.given`
    return and_(
        # Not IN: that would be an OR, which uses no index here.
        WAITER.c.event_type == any_(array([given.c.event_type, literal(ANY_EVENT, Text)])),
        WAITER.c.subject_id == given.c.subject_id,
    )


async def awaited(session: TenantSession, events: Sequence[EventRow]) -> AbstractSet[UUID]:
    """Return which events are such as their subject waits for; where each is another's, all: it is one round anyway."""
    if len({event.subject_id for event in events}) == len(events):
        return frozenset(event.id for event in events)
    given = hearing.given(events)
    waiting = (
        select(WAITER.c.slot)
        .where(WAITER.c.tenant_id == session.tenant_id, _hears(given), WAITER.c.matched_event_id.is_(None))
        .exists()
    )
    return frozenset((await session.scalars(select(given.c.event_id).where(waiting))).all())


async def end_waits(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Mark the waiters that these events match; Postgres thereby decides their race with the timer."""
    if not events:
        return
    by_id = {event.id: event for event in events}
    given = hearing.given(events)
    candidates = await session.execute(
        select(WAITER, given.c.event_id)
        .join(
            given,
            and_(_hears(given), WAITER.c.since <= given.c.received_at, WAITER.c.since_position < given.c.position),
        )
        .where(WAITER.c.tenant_id == session.tenant_id, WAITER.c.matched_event_id.is_(None))
        .order_by(WAITER.c.enrollment_id, WAITER.c.node, WAITER.c.visit)
        .with_for_update(of=WAITER)
    )
    at_node: dict[tuple[UUID, str], list[Any]] = defaultdict(list)
    for row in candidates:
        at_node[row.version_id, row.node].append(row)
    marks: _Marks = []
    for (version_id, name), rows in at_node.items():
        marks += await _marks(session, version_id, name, rows, by_id)
    await _mark(session, marks)


async def _marks(
    session: TenantSession, version_id: UUID, name: str, rows: Sequence[Any], events: Mapping[UUID, EventRow]
) -> _Marks:
    version = await versions.load(session, version_id)
    node = version.definition.nodes[name]
    if isinstance(node, WaitUntilNode):
        opened = await meeting.opened(session, version, node, rows, events)
        return [(row, {meeting.WAY: opened[row.enrollment_id]}) for row in rows if row.enrollment_id in opened]
    matching = [row for row in rows if property_values(row.match, events[row.event_id].properties) == row.match]
    where = node.where if isinstance(node, WaitForEventNode) else None
    holding = await hearing.holding(session, where, [events[row.event_id] for row in matching])
    return [(row, {}) for row in matching if row.event_id in holding]


async def _mark(session: TenantSession, marks: _Marks) -> None:
    if not marks:
        return
    marked = (
        func.unnest(
            bindparam("enrollments", [row.enrollment_id for row, _ in marks], type_=ARRAY(Uuid)),
            bindparam("nodes", [row.node for row, _ in marks], type_=ARRAY(Text)),
            bindparam("visits", [row.visit for row, _ in marks], type_=ARRAY(Integer)),
            bindparam("marks", [row.event_id for row, _ in marks], type_=ARRAY(Uuid)),
            bindparam("kept", [kept for _, kept in marks], type_=ARRAY(JSONB)),
        )
        .table_valued("enrollment_id", "node", "visit", "event_id", "kept")
        .render_derived(name="marked")
    )
    await session.execute(
        update(WAITER)
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == marked.c.enrollment_id,
            WAITER.c.node == marked.c.node,
            WAITER.c.visit == marked.c.visit,
        )
        .values(matched_event_id=marked.c.event_id, match=WAITER.c.match.op("||")(marked.c.kept))
    )
    matched: dict[tuple[str, int], dict[UUID, int]] = defaultdict(lambda: defaultdict(int))
    for row, _ in marks:
        matched[row.node, row.visit][row.cohort_id] |= 1 << row.slot
    for (name, visit), by_cohort in matched.items():
        await endings.owe(session, "matched", by_cohort, node=name, visit=visit)
