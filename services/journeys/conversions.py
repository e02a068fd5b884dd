"""Conversions: who reached what a journey is for, in their passage or after it, and whom it had left alone too.

An event is a conversion of every passage that its subject began before, if it is the goal's and came in time: `within`
after the entry, or else 90 days. One passage converts once, however often events are handled.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import DateTime, Table, Uuid, and_, bindparam, column, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from core.database import TenantSession
from journeys.definition import Goal
from journeys.durations import add
from journeys.evaluate import matches
from models import JourneyConversion
from services.events.bus import EventRow
from services.journeys import hearing, versions
from services.journeys.listening import Rule
from services.journeys.members import ENROLLMENT

CONVERSION: Table = JourneyConversion.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
MERGED: Final = "merged"
"""Why a passage ended whose person went on in another: it says nothing of its own."""
_LONGER: Final = timedelta(days=3)
"""More than a month is longer in one calendar than in another."""


async def count(session: TenantSession, events: Sequence[EventRow], rules: Mapping[str, Sequence[Rule]]) -> None:
    """Note the passages, open and ended ones, whose goal these events are."""
    heard = {event.id: event for event in events if any(rule.kind == "goal" for rule in rules.get(event.type, ()))}
    if not heard:
        return
    listening = {rule.version_id for event in heard.values() for rule in rules[event.type] if rule.kind == "goal"}
    given = hearing.given(list(heard.values()))
    goals: dict[UUID, Goal] = {}
    # Of many versions few have somebody whom the events concern: no other is read.
    concerned = _candidates(session.tenant_id, given, listening)
    for version_id in await session.scalars(concerned.with_only_columns(ENROLLMENT.c.version_id).distinct()):
        goal = (await versions.load(session, version_id)).definition.goal
        if goal is not None:
            goals[version_id] = goal
    if not goals:
        return
    first = min(_earliest(goal, min(event.received_at for event in heard.values())) for goal in goals.values())
    by_version: dict[UUID, list[Any]] = defaultdict(list)
    candidates = _candidates(session.tenant_id, given, goals).where(ENROLLMENT.c.entered_at >= first)
    for row in await session.execute(candidates):
        if _meant(goals[row.version_id], row, heard[row.event_id]):
            by_version[row.version_id].append(row)
    converted: dict[UUID, EventRow] = {}
    for version_id, rows in by_version.items():
        where = goals[version_id].where
        holding = await hearing.holding(session, where, [heard[row.event_id] for row in rows])
        converted |= {row.id: heard[row.event_id] for row in rows if row.event_id in holding}
    await _note(session, converted)


def _candidates(tenant_id: UUID, given: Any, version_ids: Iterable[UUID]) -> Any:  # noqa: ANN401 - tables and a select
    """Return the select of passages that the events' subjects began before in these versions and that may convert."""
    before = (
        select(CONVERSION.c.enrollment_id)
        .where(CONVERSION.c.tenant_id == tenant_id, CONVERSION.c.enrollment_id == ENROLLMENT.c.id)
        .correlate(ENROLLMENT)
        .exists()
    )
    return (
        select(ENROLLMENT.c.id, ENROLLMENT.c.version_id, ENROLLMENT.c.entered_at, ENROLLMENT.c.entry, given.c.event_id)
        .join(
            given,
            and_(ENROLLMENT.c.subject_id == given.c.subject_id, ENROLLMENT.c.entry_position < given.c.position),
        )
        .where(
            ENROLLMENT.c.tenant_id == tenant_id,
            ENROLLMENT.c.version_id.in_(sorted(version_ids)),
            or_(ENROLLMENT.c.entry_event_id.is_not(None), ENROLLMENT.c.entered_at <= given.c.received_at),
            ENROLLMENT.c.reason.is_distinct_from(MERGED),
            ~before,
        )
    )


def _earliest(goal: Goal, at: datetime) -> datetime:
    """Return since when those entered whose goal may come at that moment."""
    within = goal.counted_within
    return at - timedelta(days=31 * within.months + within.days) - within.elapsed - _LONGER


def _meant(goal: Goal, row: Any, event: EventRow) -> bool:  # noqa: ANN401 - a row of enrollments
    """Whether the event is the goal's, for this passage: its type, in time, with the values it entered by."""
    if event.type != goal.event or event.received_at > add(row.entered_at, goal.counted_within):
        return False
    return matches(goal.match, row.entry, event.properties)


async def _note(session: TenantSession, converted: Mapping[UUID, EventRow]) -> None:
    if not converted:
        return
    by = sorted(converted.items())  # in one order, so that two who write the same wait for one another
    given = (
        func.unnest(
            bindparam("enrollments", [enrollment_id for enrollment_id, _ in by], type_=ARRAY(Uuid)),
            bindparam("events", [event.id for _, event in by], type_=ARRAY(Uuid)),
            bindparam("moments", [event.received_at for _, event in by], type_=ARRAY(DateTime(timezone=True))),
        )
        .table_valued(column("enrollment_id", Uuid), column("event_id", Uuid), column("at", DateTime(timezone=True)))
        .render_derived(name="given")
    )
    await session.execute(
        insert(CONVERSION)
        .from_select(
            ["tenant_id", "enrollment_id", "event_id", "converted_at"],
            select(
                literal(session.tenant_id, Uuid).label("tenant_id"),
                given.c.enrollment_id,
                given.c.event_id,
                given.c.at,
            ),
        )
        .on_conflict_do_nothing()
    )
