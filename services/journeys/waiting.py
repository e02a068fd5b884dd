"""Waits whose end an activity says: by a person's clock, by a date, by a window of hours.

The moment rests on what Postgres says now and on when a member came, so that a repeat answers the same, and one that
is planned anew gets the moment that holds now.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Text, case, func, literal, null, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys import members as member_sets
from journeys.conditions import FieldPath
from journeys.durations import zone_or_utc
from journeys.waits import TimeWindowNode, WaitNode
from models import Tenant
from services.journeys.members import ENROLLMENT, CohortMembers, movable
from services.journeys.moving import Leaving, move, standing, until
from services.journeys.subjects import surroundings
from services.journeys.versions import LoadedVersion
from services.shared.conditions_fields import UTC_ZONE
from services.shared.conditions_sql import Scope, field_value

_SKEW: Final = timedelta(minutes=1)
"""By how much the clock of Postgres may be behind the one that said a moment has come."""


@dataclass(slots=True)
class Stay:
    """What became of members who wait, as sets of slots: moved on by an outcome, or there until a moment."""

    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    waits: dict[datetime, int] = field(default_factory=dict[datetime, int])


@dataclass(frozen=True, slots=True)
class Passage:
    """At which passage of which journey members stand, and which attempt at a step this is."""

    version: LoadedVersion
    node: str
    visit: int
    attempt: int


async def plan(session: TenantSession, at: Passage, members: CohortMembers, node: WaitNode | TimeWindowNode) -> Stay:
    """Say until when members wait, and move on those who need not, or cannot."""
    return await _answer(
        session, at, members, [(row, _planned(node, row)) for row in await _rows(session, at, members)]
    )


async def leave(session: TenantSession, at: Passage, members: CohortMembers, node: WaitNode | TimeWindowNode) -> Stay:
    """Move members on whose wait is over; whose date moved, or whose window closed meanwhile, wait on."""
    if isinstance(node, WaitNode) and node.until is None:
        return Stay(await move_by(session, at, members, "elapsed"))
    rows = await _rows(session, at, members)
    return await _answer(session, at, members, [(row, _over(node, row)) for row in rows])


async def move_by(session: TenantSession, at: Passage, members: CohortMembers, outcome: str) -> dict[str, int]:
    """Move all members on by one outcome; return who was moved."""

    def leaving() -> Any:  # noqa: ANN401 - a select
        detail = until() if outcome == "elapsed" else null().cast(JSONB)
        columns = literal(outcome, Text).label("outcome"), detail.label("detail")
        return standing(members, at.node, at.visit, *columns)

    how = Leaving(at.node, at.visit, how=("by", outcome), select=leaving)
    return await move(session, at.version, members, how, attempt=at.attempt)


async def _answer(
    session: TenantSession, at: Passage, members: CohortMembers, found: Sequence[tuple[Any, datetime | str]]
) -> Stay:
    done = Stay()
    leaving: dict[str, int] = defaultdict(int)
    for row, answer in found:
        slots = member_sets.from_slots(row.slots)
        if isinstance(answer, str):
            leaving[answer] |= slots
        else:
            done.waits[answer] = done.waits.get(answer, 0) | slots
    for outcome, mask in sorted(leaving.items()):
        done.outcomes |= await move_by(session, at, members.only(mask), outcome)
    return done


async def _rows(session: TenantSession, at: Passage, members: CohortMembers) -> Sequence[Any]:
    """Return who stands at the passage, grouped by all that their moment rests on."""
    node = at.version.definition.nodes[at.node]
    if not isinstance(node, WaitNode | TimeWindowNode):
        raise TypeError(f"node {at.node} is not a wait")
    around = surroundings(at.version.definition, session.tenant_id)
    zone: ColumnElement[str]
    match node.clock_of:
        case "person":
            zone = func.coalesce(around.person.c.time_zone, Tenant.time_zone)
        case "tenant":
            zone = func.coalesce(Tenant.time_zone)
        case name:
            zone = literal(name, Text)
    value = (
        text_of(node.until, around.scope)
        if isinstance(node, WaitNode) and node.until is not None
        else null().cast(Text)
    )
    standing_here = (
        select(
            zone.label("zone"),
            value.label("value"),
            ENROLLMENT.c.node_entered_at,
            ENROLLMENT.c.wake_at,
            ENROLLMENT.c.slot,
        )
        .select_from(around.source)
        .join(Tenant, Tenant.id == ENROLLMENT.c.tenant_id)
        .where(*members.within(ENROLLMENT), *movable(ENROLLMENT, at.node, at.visit), members.journey_runs())
        .subquery()
    )
    alike = [column for column in standing_here.c if column.name != "slot"]
    rows = await session.execute(
        select(*alike, func.now().label("now"), func.array_agg(standing_here.c.slot).label("slots")).group_by(*alike)
    )
    return rows.all()


def text_of(path: FieldPath, scope: Scope) -> ColumnElement[Any]:
    """Return what a field holds, as text that `journeys.literals.as_date` reads where it is a time."""
    value = field_value(path, scope)
    if value.instant is not None:
        utc = func.timezone(UTC_ZONE, value.instant)
        return case((value.present, func.to_char(utc, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text)))
    return null().cast(Text) if value.text is None else case((value.present, value.text))


def _planned(node: WaitNode | TimeWindowNode, row: Any) -> datetime | str:  # noqa: ANN401 - of `_rows`
    zone = zone_or_utc(row.zone)
    if isinstance(node, TimeWindowNode):
        opens = node.opens(row.now, zone)
        return "inside" if opens <= row.now else opens
    if node.until is None:
        return node.due(row.node_entered_at, zone)
    # Planned anew in mid-wait, a moment that lies behind by now is past; who was not planned in time still gets theirs.
    since = row.now if row.wake_at is not None and row.wake_at > row.now else row.node_entered_at
    due = node.due_by(row.value, since, zone)
    return "past" if due is None or due < since else due


def _over(node: WaitNode | TimeWindowNode, row: Any) -> datetime | str:  # noqa: ANN401 - of `_rows`
    zone, now = zone_or_utc(row.zone), reached(row.now, row.wake_at)
    if isinstance(node, TimeWindowNode):
        opens = node.opens(now, zone)
        return opens if opens > now else "elapsed"
    due = node.due_by(row.value, row.node_entered_at, zone)
    return due if due is not None and due > now else "elapsed"


def reached(now: datetime, wake_at: datetime | None) -> datetime:
    """Return the time by the clock that said `wake_at` has come, where it is that one that runs ahead."""
    return wake_at if wake_at is not None and now < wake_at <= now + _SKEW else now
