"""The move: members leave a node by its outcomes, their steps are recorded, and they arrive at the next node.

One statement per call, whatever the number of members. Postgres is the judge: only those who still stand at that very
passage and may move are moved, so a repeat after a crash moves nobody twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    column,
    delete,
    func,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys import members as member_sets
from journeys.nodes import SKIPPED, successors
from services.journeys.entering import WAITER, Arrival, arrival, conversions_for, waiters_for
from services.journeys.members import ENROLLMENT, CohortMembers, movable, present
from services.journeys.onward import STEP, Way, moment
from services.journeys.versions import LoadedVersion
from services.journeys.waking import wake_at


@dataclass(frozen=True, slots=True)
class Leaving:
    """Who leaves a node, and which way."""

    node: str
    visit: int
    how: tuple[object, ...]
    """With node and visit, what the statement is known by: all it depends on beside the members."""
    select: Callable[[], Any]
    """Makes the select, as `standing` begins it, with the columns `outcome` and `detail`."""
    skipped: bool = False
    """Whether they pass the node without its doing, by `SKIPPED` alone."""
    onward: Mapping[str, Way] = field(default_factory=dict[str, Way])
    """By which outcomes they go further than the next node, as the caller does at once what lies on the way."""
    waits: bool = False
    """Whether their waiters, which the caller or the select has locked, end with it: of those alone who do move."""

    def outcomes(self, version: LoadedVersion) -> list[str]:
        """Return by which outcomes they may leave."""
        return [SKIPPED] if self.skipped else list(successors(version.definition.nodes[self.node]))

    def target(self, version: LoadedVersion, outcome: str) -> tuple[str, int] | None:
        """Return where an outcome leads to."""
        way = self.onward.get(outcome)
        return version.plan.move(self.node, self.visit, outcome) if way is None else way.to


def standing(members: CohortMembers, node: str, visit: int, *joined: Any) -> Any:  # noqa: ANN401 - SQLAlchemy selectables
    """Return the select of those who may leave `node`: id, slot, when they came, and the columns in `joined`."""
    return select(
        ENROLLMENT.c.id,
        ENROLLMENT.c.slot,
        ENROLLMENT.c.node_entered_at,
        *joined,
    ).where(*members.within(ENROLLMENT), *movable(ENROLLMENT, node, visit), *members.acting(), members.journey_runs())


def held_waiters(members: CohortMembers, node: str, visit: int, *, matched_only: bool) -> CTE:
    """Return the CTE that locks the waiters of those who may leave `node`: enrollment_id, matched_event_id.

    Locking waits for the relay and reads what it committed, so Postgres decides the race of event and timer.
    """
    held = (
        select(WAITER.c.enrollment_id, WAITER.c.matched_event_id)
        .join(ENROLLMENT, WAITER.c.enrollment_id == ENROLLMENT.c.id)
        .where(
            WAITER.c.tenant_id == members.tenant_id,
            WAITER.c.node == node,
            WAITER.c.visit == visit,
            *members.within(ENROLLMENT),
            *movable(ENROLLMENT, node, visit),
            members.journey_runs(),
        )
        .order_by(WAITER.c.enrollment_id)
        .with_for_update(of=WAITER)
    )
    if matched_only:
        held = held.where(WAITER.c.matched_event_id.is_not(None))
    return held.cte("held")


async def move(
    session: TenantSession,
    version: LoadedVersion,
    members: CohortMembers,
    leaving: Leaving,
    *,
    attempt: int,
) -> dict[str, int]:
    """Move those who leave on, by the column `outcome`; return the members moved, by outcome.

    Each moved member gets its step (with `detail`), and what arriving writes: a waiter, or the end of the passage.
    """
    moved = await move_all(session, version, leaving, members.parameters(), attempt=attempt)
    return {outcome: slots for (_, outcome), slots in moved.items()}


async def move_all(
    session: TenantSession, version: LoadedVersion, leaving: Leaving, parameters: Mapping[str, Any], *, attempt: int = 1
) -> dict[tuple[UUID, str], int]:
    """Move those of any cohorts as `move` does, whom the select of `leaving` finds by these parameters.

    Returns the members moved, by cohort and outcome.
    """
    statement = version.statements.get(
        ("move", leaving.node, leaving.visit, leaving.how, *sorted(parameters), *leaving.onward.items()),
        lambda: _statement(session.tenant_id, version, leaving),
    )
    wakes = await _wakes(session, version, leaving)
    rows = (await session.execute(statement, {**parameters, "attempt": attempt, "wakes": wakes})).all()
    return {(row.cohort_id, row.outcome): member_sets.from_slots(row.slots) for row in rows}


async def _wakes(session: TenantSession, version: LoadedVersion, leaving: Leaving) -> list[datetime | None]:
    """Return, in the order of the outcomes, until when who arrives there by one waits now."""
    now = datetime.now(UTC)
    arrivals = [leaving.target(version, outcome) for outcome in leaving.outcomes(version)]
    return [None if target is None else await wake_at(session, version, target[0], now) for target in arrivals]


def _statement(tenant_id: UUID, version: LoadedVersion, leaving: Leaving) -> Select[*tuple[Any, ...]]:
    node, visit = leaving.node, leaving.visit
    arrivals = {outcome: _arrival_of(version, leaving, outcome) for outcome in leaving.outcomes(version)}
    member: CTE = leaving.select().cte("member")
    # Arrays, not VALUES: a statement with VALUES is compiled anew each time.
    ways = list(arrivals.items())
    target = (
        func.unnest(
            bindparam(None, [outcome for outcome, _ in ways], type_=ARRAY(Text)),
            bindparam(None, [arrived.node for _, arrived in ways], type_=ARRAY(Text)),
            bindparam(None, [arrived.visit for _, arrived in ways], type_=ARRAY(Integer)),
            bindparam(None, [arrived.status for _, arrived in ways], type_=ARRAY(Text)),
            bindparam(None, [arrived.reason for _, arrived in ways], type_=ARRAY(Text)),
            bindparam(None, [_passed(leaving, outcome) for outcome, _ in ways], type_=ARRAY(Integer)),
            bindparam("wakes", type_=ARRAY(ENROLLMENT.c.wake_at.type)),
        )
        .table_valued(
            column("outcome", Text),
            column("node", Text),
            column("visit", Integer),
            column("status", Text),
            column("reason", Text),
            column("passed", Integer),
            column("wake_at", ENROLLMENT.c.wake_at.type),
        )
        .render_derived(name="target")
    )
    came_at = _came_at(ENROLLMENT.c.node_entered_at) if leaving.waits else moment(target.c.passed)
    moved: CTE = (
        update(ENROLLMENT)
        .where(
            ENROLLMENT.c.tenant_id == tenant_id,
            ENROLLMENT.c.id == member.c.id,
            target.c.outcome == member.c.outcome,
            *present(ENROLLMENT, node, visit),
        )
        .values(
            node=target.c.node,
            visit=target.c.visit,
            status=target.c.status,
            reason=target.c.reason,
            node_entered_at=came_at,
            wake_at=target.c.wake_at,
            problem=null(),
            skip=case((target.c.status == "active", func.nullif(ENROLLMENT.c.skip, "node")), else_=null()),
            ended_at=case((target.c.status == "completed", came_at), else_=null()),
        )
        .returning(
            ENROLLMENT.c.tenant_id,
            ENROLLMENT.c.id,
            ENROLLMENT.c.cohort_id,
            ENROLLMENT.c.slot,
            ENROLLMENT.c.subject_id,
            ENROLLMENT.c.entry,
            member.c.outcome,
            member.c.detail,
            member.c.node_entered_at.label("entered_at"),
            (ENROLLMENT.c.node_entered_at if leaving.waits else func.now()).label("left_at"),
        )
        .cte("moved")
    )
    steps = (
        STEP.insert()
        .from_select(
            ["tenant_id", "enrollment_id", "node", "visit", "entered_at", "left_at", "outcome", "attempt", "detail"],
            select(
                moved.c.tenant_id,
                moved.c.id,
                literal(node),
                literal(visit, Integer),
                moved.c.entered_at,
                moved.c.left_at,
                moved.c.outcome,
                bindparam("attempt", type_=Integer),
                moved.c.detail,
            ),
        )
        .cte("steps")
    )
    statement = (
        select(moved.c.cohort_id, moved.c.outcome, func.array_agg(moved.c.slot).label("slots"))
        .group_by(moved.c.cohort_id, moved.c.outcome)
        .add_cte(steps)
    )
    if leaving.waits:
        statement = statement.add_cte(
            delete(WAITER)
            .where(
                WAITER.c.tenant_id == tenant_id,
                WAITER.c.enrollment_id == moved.c.id,
                WAITER.c.node == node,
                WAITER.c.visit == visit,
            )
            .returning(WAITER.c.slot)
            .cte("ended")
        )
    for index, (outcome, arrived) in enumerate(arrivals.items()):
        here = select(moved).where(moved.c.outcome == outcome).subquery()
        waiting = waiters_for(
            version, arrived.node, arrived.visit, here, since=here.c.left_at, since_position=literal(0, Integer)
        )
        if waiting is not None:
            statement = statement.add_cte(waiting.cte(f"waiting_{index}"))
        converted = conversions_for(version, arrived.node, here)
        if converted is not None:
            statement = statement.add_cte(converted.cte(f"converted_{index}"))
    return statement


def _passed(leaving: Leaving, outcome: str) -> int:
    return len(leaving.onward[outcome].through) if outcome in leaving.onward else 0


def _came_at(entered_at: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return when who leaves a wait comes to the next node: now, or else behind when they came, in their order.

    The relay's transaction may have begun before the step that brought them to the wait, or have brought them itself.
    """
    return func.greatest(func.now(), entered_at + literal("1 microsecond", Text).cast(INTERVAL))


def constant(outcome: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the columns of a node with one way out."""
    return literal(outcome, Text).label("outcome"), null().cast(JSONB).label("detail")


def by_waiter(held: CTE, *, timed_out: bool) -> tuple[Any, tuple[ColumnElement[Any], ColumnElement[Any]]]:
    """Return the join with `held_waiters`, and the columns: `matched` with its event, else `timed_out`."""
    came = held.c.matched_event_id.is_not(None)
    join = ENROLLMENT.join(held, held.c.enrollment_id == ENROLLMENT.c.id, isouter=timed_out)
    return join, (
        case((came, "matched"), else_="timed_out").label("outcome"),
        case((came, func.jsonb_build_object("event_id", held.c.matched_event_id)), else_=until()).label("detail"),
    )


def until() -> ColumnElement[Any]:
    """Return the detail of a wait that is over: when it was to end."""
    return func.jsonb_build_object("until", ENROLLMENT.c.wake_at, type_=JSONB)


def _arrival_of(version: LoadedVersion, leaving: Leaving, outcome: str) -> Arrival:
    target = leaving.target(version, outcome)
    if target is None:
        raise ValueError(f"node {leaving.node} has no outcome {outcome}")
    return arrival(version, *target)
