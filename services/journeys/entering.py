"""What arriving at a node writes, whoever brings a member there: an enrollment, or the step before."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import FromClause, Insert, Table, Text, and_, case, func, literal, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.sql.elements import ColumnElement

from journeys.evaluate import MAX_KEY_LENGTH
from journeys.matching import Match
from journeys.nodes import ExitNode, GoalNode
from journeys.pacing import RateLimitNode
from journeys.waits import EventWay, TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode
from models import JourneyConversion, Waiter
from services.journeys.versions import LoadedVersion

ANY_EVENT: Final = ""
"""As the type that a waiter waits for: any, as the length of none is zero."""
WAITER: Table = Waiter.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a member comes to, and what its row says there."""

    node: str
    visit: int
    status: str
    reason: str | None
    """Set when the node is an exit or a goal: the passage is over."""

    @property
    def ends(self) -> bool:
        """Whether the enrollment ends by arriving."""
        return self.status == "completed"


def arrival(version: LoadedVersion, node: str, visit: int) -> Arrival:
    """Return what arriving at `node` for the `visit`-th time makes of an enrollment."""
    match version.definition.nodes[node]:
        case ExitNode(reason=reason):
            return Arrival(node, visit, "completed", reason)
        case GoalNode(name=name):
            return Arrival(node, visit, "completed", name)
        case WaitNode() | TimeWindowNode() | WaitForEventNode() | WaitUntilNode() | RateLimitNode():
            return Arrival(node, visit, "waiting", None)
        case _:
            return Arrival(node, visit, "active", None)


def conversions_for(version: LoadedVersion, node: str, arrived: FromClause) -> Insert | None:
    """Return the statement that counts those in `arrived` as having reached the goal, None where `node` is none.

    `arrived` has the columns tenant_id and id. Whoever converted before stays as they did.
    """
    if not isinstance(version.definition.nodes[node], GoalNode):
        return None
    source = select(arrived.c.tenant_id, arrived.c.id, literal(node, Text))
    columns = ["tenant_id", "enrollment_id", "node"]
    return pg_insert(JourneyConversion).from_select(columns, source).on_conflict_do_nothing()


@dataclass(frozen=True, slots=True)
class Awaited:
    """The event that members wait for at a node."""

    event: str
    """Its type; `ANY_EVENT` where they hear all."""
    match: ColumnElement[Any]
    """What it must match, as `journeys.evaluate.match_values` has it; of several events, by the number of the way."""
    complete: tuple[ColumnElement[bool], ...]
    """Whether the entry has all of these values; no event can match one who lacks some."""


def awaited(version: LoadedVersion, node: str, arrived: FromClause) -> Awaited | None:
    """Return what those in `arrived`, who have the column entry, wait for at `node`; None where it is no event."""
    waiting = version.definition.nodes[node]
    if isinstance(waiting, WaitForEventNode):
        match, complete = _matched(arrived, waiting.match)
        return Awaited(waiting.event, match, tuple(complete))
    if not isinstance(waiting, WaitUntilNode):
        return None
    parts: list[Any] = []
    for index, way in enumerate(waiting.ways):
        if isinstance(way, EventWay):
            values, whole = _matched(arrived, way.match)
            parts += [literal(str(index), Text), case((and_(true(), *whole), values))]
    match = func.jsonb_strip_nulls(func.jsonb_build_object(*parts, type_=JSONB), type_=JSONB)
    return Awaited(ANY_EVENT, match, ())


def waiters_for(
    version: LoadedVersion,
    node: str,
    visit: int | ColumnElement[int],
    arrived: FromClause,
    *,
    since: ColumnElement[datetime],
    since_position: ColumnElement[int],
) -> Insert | None:
    """Return the statement that parks those in `arrived` at `node`, or None where nobody waits for an event there.

    `arrived` has the columns tenant_id, id, cohort_id, slot, subject_id and entry. Whose entry lacks a value that the
    event must match gets no waiter: no event can match, so the time runs out.
    """
    heard = awaited(version, node, arrived)
    if heard is None:
        return None
    source = select(
        arrived.c.tenant_id,
        arrived.c.id,
        literal(node),
        literal(visit) if isinstance(visit, int) else visit,
        arrived.c.cohort_id,
        arrived.c.slot,
        literal(version.id),
        literal(heard.event),
        arrived.c.subject_id,
        heard.match,
        since,
        since_position,
    ).where(*heard.complete)
    return WAITER.insert().from_select(
        [
            "tenant_id",
            "enrollment_id",
            "node",
            "visit",
            "cohort_id",
            "slot",
            "version_id",
            "event_type",
            "subject_id",
            "match",
            "since",
            "since_position",
        ],
        source,
    )


def _matched(arrived: FromClause, match: Match) -> tuple[ColumnElement[Any], list[ColumnElement[bool]]]:
    """Return what an event must carry, as JSONB, and the predicates that the entry has all of it."""
    parts: list[Any] = []
    complete: list[ColumnElement[bool]] = []
    for event_path, entry_path in match.items():
        value = func.jsonb_extract_path_text(arrived.c.entry, *entry_path.path)
        kind = func.jsonb_typeof(func.jsonb_extract_path(arrived.c.entry, *entry_path.path))
        complete += [kind.in_(("string", "number", "boolean")), func.length(value).between(1, MAX_KEY_LENGTH)]
        parts += [literal(".".join(event_path.path[1:]), Text), value]
    return func.jsonb_build_object(*parts, type_=JSONB), complete
