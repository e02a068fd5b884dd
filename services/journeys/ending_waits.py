"""Events at work on waits: who waits for them is moved on, which decides their race with the timer.

An event is told to those who wait for its type, and to those who hear every event (`ANY_EVENT`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Text, Uuid, and_, any_, bindparam, exists, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys.evaluate import property_values
from journeys.waits import MET, WaitForEventNode, WaitUntilNode
from models import Journey
from services.events.bus import EventRow
from services.journeys import endings, hearing, meeting, versions
from services.journeys.entering import ANY_EVENT, WAITER
from services.journeys.listening import Entry
from services.journeys.members import ENROLLMENT, movable
from services.journeys.moving import Leaving, move_all
from services.journeys.versions import LoadedVersion


@dataclass(frozen=True, slots=True)
class Ended:
    """A wait that an event ends."""

    row: Any
    """Of its waiter, with the id of the event."""
    version: LoadedVersion
    outcome: str
    """By which whoever waits leaves it."""
    kept: dict[str, Any]
    """What their waiter keeps of it, where they are to leave it later."""


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


async def ended(session: TenantSession, events: Sequence[EventRow]) -> list[Ended]:
    """Return the waits that these events end, their waiters locked; nothing is written before `go_on`."""
    if not events:
        return []
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
    found: list[Ended] = []
    for (version_id, name), rows in at_node.items():
        found += await _ended(session, version_id, name, rows, by_id)
    return found


async def _ended(
    session: TenantSession, version_id: UUID, name: str, rows: Sequence[Any], events: Mapping[UUID, EventRow]
) -> list[Ended]:
    version = await versions.load(session, version_id)
    node = version.definition.nodes[name]
    if isinstance(node, WaitUntilNode):
        opened = await meeting.opened(session, version, node, rows, events)
        ways = [(row, opened[row.enrollment_id]) for row in rows if row.enrollment_id in opened]
        return [Ended(row, version, f"{MET}{way}", {meeting.WAY: way}) for row, way in ways]
    matching = [row for row in rows if property_values(row.match, events[row.event_id].properties) == row.match]
    where = node.where if isinstance(node, WaitForEventNode) else None
    holding = await hearing.holding(session, where, [events[row.event_id] for row in matching])
    return [Ended(row, version, "matched", {}) for row in matching if row.event_id in holding]


async def go_on(session: TenantSession, found: Sequence[Ended]) -> None:
    """Move on whose waits have ended, in Postgres, and tell their workflows where from.

    Who may not move now, being paused or parked, gets a mark, by which a step moves them in their time. Whose passage
    has ended since is passed over.
    """
    at_passage: dict[tuple[UUID, str, int], list[Ended]] = defaultdict(list)
    for each in found:
        at_passage[each.version.id, each.row.node, each.row.visit].append(each)
    staying: list[Ended] = []
    for (_, node, visit), those in at_passage.items():
        moved = await _move(session, those[0].version, node, visit, those)
        gone: dict[UUID, int] = defaultdict(int)
        by_outcome: dict[str, dict[UUID, int]] = defaultdict(dict)
        for (cohort_id, outcome), slots in moved.items():
            gone[cohort_id] |= slots
            by_outcome[outcome][cohort_id] = slots
        for outcome, by_cohort in by_outcome.items():
            await endings.owe(session, "matched", by_cohort, node=node, visit=visit, outcome=outcome)
        staying += [each for each in those if not gone[each.row.cohort_id] >> each.row.slot & 1]
    await _mark(session, staying)


async def _move(
    session: TenantSession, version: LoadedVersion, node: str, visit: int, those: Sequence[Ended]
) -> dict[tuple[UUID, str], int]:
    def leaving() -> Any:  # noqa: ANN401 - a select
        over = (
            func.unnest(
                bindparam("enrollments", type_=ARRAY(Uuid)),
                bindparam("outcomes", type_=ARRAY(Text)),
                bindparam("events", type_=ARRAY(Uuid)),
            )
            .table_valued("enrollment_id", "outcome", "event_id")
            .render_derived(name="over")
        )
        runs = exists().where(
            Journey.tenant_id == session.tenant_id, Journey.id == version.journey_id, Journey.status == "active"
        )
        return select(
            ENROLLMENT.c.id,
            ENROLLMENT.c.slot,
            ENROLLMENT.c.node_entered_at,
            over.c.outcome,
            func.jsonb_build_object("event_id", over.c.event_id, type_=JSONB).label("detail"),
        ).where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.id == over.c.enrollment_id,
            *movable(ENROLLMENT, node, visit),
            runs,
        )

    given = {
        "enrollments": [each.row.enrollment_id for each in those],
        "outcomes": [each.outcome for each in those],
        "events": [each.row.event_id for each in those],
    }
    return await move_all(session, version, Leaving(node, visit, how=("heard",), select=leaving, waits=True), given)


async def _mark(session: TenantSession, staying: Sequence[Ended]) -> None:
    if not staying:
        return
    marked = (
        func.unnest(
            bindparam("enrollments", [each.row.enrollment_id for each in staying], type_=ARRAY(Uuid)),
            bindparam("nodes", [each.row.node for each in staying], type_=ARRAY(Text)),
            bindparam("visits", [each.row.visit for each in staying], type_=ARRAY(Integer)),
            bindparam("marks", [each.row.event_id for each in staying], type_=ARRAY(Uuid)),
            bindparam("kept", [each.kept for each in staying], type_=ARRAY(JSONB)),
        )
        .table_valued("enrollment_id", "node", "visit", "event_id", "kept")
        .render_derived(name="marked")
    )
    rows = await session.execute(
        update(WAITER)
        .where(
            WAITER.c.tenant_id == session.tenant_id,
            WAITER.c.enrollment_id == marked.c.enrollment_id,
            WAITER.c.node == marked.c.node,
            WAITER.c.visit == marked.c.visit,
        )
        .values(matched_event_id=marked.c.event_id, match=WAITER.c.match.op("||")(marked.c.kept))
        .returning(WAITER.c.node, WAITER.c.visit, WAITER.c.cohort_id, WAITER.c.slot)
    )
    matched: dict[tuple[str, int], dict[UUID, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        matched[row.node, row.visit][row.cohort_id] |= 1 << row.slot
    for (name, visit), by_cohort in matched.items():
        await endings.owe(session, "matched", by_cohort, node=name, visit=visit)
