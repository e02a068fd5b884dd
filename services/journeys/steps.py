"""What each kind of node does to the members who stand there: one transaction, whatever their number.

`run` answers for every member it is asked about: moved on, held, parked, or gone. It may be repeated at any time: who
was moved by an earlier attempt is reported with the outcome that attempt recorded.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Text, Uuid, and_, bindparam, case, column, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError

from core.actor import Actor
from core.database import TenantSession
from journeys import members as member_sets
from journeys.command_nodes import WebhookNode
from journeys.nodes import BranchNode, SendNode, UpdatePersonNode
from journeys.state import RunKind
from journeys.waits import TimeWindowNode, WaitNode, WaitUntilNode
from services.identity import bulk
from services.journeys import answering, meeting, onward, passing, seeing, waiting
from services.journeys.members import ENROLLMENT, CohortMembers, movable
from services.journeys.moving import Leaving, by_waiter, constant, held_waiters, move, standing
from services.journeys.onward import STEP, Detail, Later, Through, Way
from services.journeys.subjects import surroundings
from services.journeys.versions import LoadedVersion
from services.journeys.waiting import Passage, Stay
from services.journeys.waking import planned
from services.shared.conditions_sql import compile_condition

PERMANENT = ("22", "23", "P0")
"""SQLSTATE classes that lie in a member's data, so a repeat cannot cure them: value, constraint, raised by trigger."""


@dataclass(slots=True)
class StepOutcome:
    """What became of the members of a run, as sets of slots."""

    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    waits: dict[datetime, int] = field(default_factory=dict[datetime, int])
    """Who stays at the node until when."""
    listening: int = 0
    """Who stays until an event comes, without end."""
    held: int = 0
    parked: int = 0
    gone: int = 0
    arrived: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """Who went on past nodes that only act, all done by this run, and the node and visit where they stand now."""

    def answered(self) -> int:
        """Everybody this names."""
        named = self.listening | self.held | self.parked | self.gone
        for members in (*self.outcomes.values(), *self.waits.values(), *self.arrived.values()):
            named |= members
        return named

    def add(self, other: "StepOutcome") -> None:
        """Take over what another part of the run did."""
        for outcome, members in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) | members
        for due, members in other.waits.items():
            self.waits[due] = self.waits.get(due, 0) | members
        for passage, members in other.arrived.items():
            self.arrived[passage] = self.arrived.get(passage, 0) | members
        self.listening |= other.listening
        self.held |= other.held
        self.parked |= other.parked
        self.gone |= other.gone


class Apart(Protocol):
    """Has the store execute one statement on a connection of its own, for the tenant; returns the value it gives."""

    async def __call__(self, statement: str, *arguments: object) -> Any:  # noqa: ANN401 - the statement's
        """Execute it."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one node."""

    version: LoadedVersion
    kind: RunKind
    node: str
    visit: int
    timed_out: bool
    attempt: int
    actions: "Actions"
    onward: Mapping[str, Way] = field(default_factory=dict[str, Way])
    """By which outcomes of the node the run goes on with the nodes that follow."""
    later: Later = field(default_factory=Later)
    """What the nodes of this run keep back."""
    apart: Apart | None = None
    """For what is to stay whatever becomes of the step's transaction; None: there is nobody to do it."""

    @property
    def passage(self) -> tuple[str, int]:
        """Node and visit."""
        return self.node, self.visit

    @property
    def at(self) -> Passage:
        """Where its members stand."""
        return Passage(self.version, self.node, self.visit, self.attempt)


def going_on(step: Step) -> Step:
    """Return the step as one that does at once, with its node, those that follow and only act."""
    node = step.version.definition.nodes[step.node]
    plain = isinstance(node, BranchNode) or (isinstance(node, SendNode) and node.variants is None)
    if step.kind != "act" or not (plain or onward.shares(step.actions.get(type(node)))):
        return step
    ways = onward.ways(step.version, step.passage, step.actions)
    return replace(step, onward=ways, later=onward.later(step.version, step.passage, ways, step.actions))


async def run(session: TenantSession, step: Step, members: CohortMembers, *, isolating: bool = True) -> StepOutcome:
    """Do what the node does for these members, and say what became of each.

    Members whose data the store refuses are parked, and the others go on; without `isolating` the refusal is raised.
    """
    if step.kind == "act" and isinstance(step.version.definition.nodes[step.node], SendNode):
        members = replace(members, sends=True)
    done = await (_isolated if isolating else _ACTIONS[step.kind])(session, step, members)
    if going_on := sum(done.outcomes.get(each, 0) for each in step.onward):
        await step.later.hold(session, step, members.only(going_on))
    for outcome, way in step.onward.items():
        if going := done.outcomes.pop(outcome, 0):
            await _go_on(session, step, members.only(going), way)
            done.arrived[way.to] = done.arrived.get(way.to, 0) | going
    if done.waits:
        await planned(session, step.passage, members, done.waits)
    rest = members.mask & ~done.answered()
    if rest:
        skipped = await passing.past(session, step.version, step.passage, members.only(rest), attempt=step.attempt)
        done.add(StepOutcome(outcomes=skipped))
        rest &= ~done.answered()
    if rest:
        done.add(await _classified(session, step, members.only(rest)))
    return done


def permanent(error: DBAPIError) -> str | None:
    """Return what is wrong with a member's data, None where a repeat may cure the error."""
    sqlstate = str(getattr(error.orig, "sqlstate", "") or "")
    return f"{sqlstate}: {str(error.orig).splitlines()[0][:200]}" if sqlstate.startswith(PERMANENT) else None


async def _isolated(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    """Act for all; where the store refuses, for halves, down to the members it refuses: those are parked."""
    try:
        async with session.begin_nested():
            return await _ACTIONS[step.kind](session, step, members)
    except DBAPIError as error:
        reason = permanent(error)
        if reason is None:
            raise
    slots = member_sets.slots(members.mask)
    if len(slots) == 1:
        await park(session, members, step.node, step.visit, reason, attempt=step.attempt)
        return StepOutcome(parked=members.mask)
    middle = 1 << slots[len(slots) // 2]
    lower = members.mask & (middle - 1)
    done = await _isolated(session, step, members.only(lower))
    done.add(await _isolated(session, step, members.only(members.mask & ~lower)))
    return done


async def park(
    session: TenantSession, members: CohortMembers, node: str, visit: int, error: str, *, attempt: int
) -> None:
    """Set members aside whose node failed: they keep their place, visibly, until somebody retries or removes them."""
    await session.execute(
        update(ENROLLMENT)
        .where(*members.within(ENROLLMENT), *movable(ENROLLMENT, node, visit))
        .values(status="failed", problem={"error": error, "attempt": attempt})
    )


async def park_all(session: TenantSession, step: Step, members: CohortMembers, error: str) -> StepOutcome:
    """Set members aside whose step failed as a whole, and say where each is: an attempt may have moved some before."""
    await park(session, members, step.node, step.visit, error, attempt=step.attempt)
    return await _classified(session, step, members)


async def _act(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    node = step.version.definition.nodes[step.node]
    action = step.actions.get(type(node))
    if action is None:
        raise TypeError(f"node {step.node} does not act here")
    if not isinstance(action, Through):
        return await action(session, step, members, node)
    done = await pass_through(session, step, members, "done")
    if done:
        await step.later.hold(session, step, members.only(done["done"]))
        await note(session, step, await action.effect(session, step, members.only(done["done"]), node))
    return StepOutcome(outcomes=done)


async def _go_on(session: TenantSession, step: Step, members: CohortMembers, way: Way) -> None:
    """Do for members who were moved past them what the nodes on their way do."""
    details: list[Mapping[UUID, Detail]] = []
    for node, visit in way.through:
        doing = step.version.definition.nodes[node]
        action = step.actions[type(doing)]
        if not onward.shares(action):
            raise TypeError(f"node {node} does more than act")
        await step.later.settle(session, None if action.asks is None else action.asks(doing))
        at = replace(step, node=node, visit=visit, onward={})
        details.append(await action.effect(session, at, replace(members, sends=False), doing))
    await step.later.settle(session, None)
    await onward.record(session, members, way.through, details, attempt=step.attempt)


async def _branch(session: TenantSession, step: Step, members: CohortMembers, node: BranchNode) -> StepOutcome:
    def leaving() -> Any:  # noqa: ANN401 - a select
        around = surroundings(step.version.definition, session.tenant_id)
        outcome = case(
            *(
                (compile_condition(branch.when, around.scope), literal(f"branch_{i}", Text))
                for i, branch in enumerate(node.branches)
            ),
            else_=literal("otherwise", Text),
        ).label("outcome")
        detail = seeing.as_detail(seeing.seen((branch.when for branch in node.branches), around.scope))
        return standing(members, *step.passage, outcome, detail.label("detail")).select_from(around.source)

    return StepOutcome(outcomes=await _move(session, step, members, leaving))


async def _update_person(
    session: TenantSession, step: Step, members: CohortMembers, node: UpdatePersonNode
) -> Mapping[UUID, Detail]:
    around = surroundings(step.version.definition, session.tenant_id)
    chosen = (
        select(around.person_id)
        .distinct()
        .select_from(around.source)
        .where(around.person_id.is_not(None), *members.within(ENROLLMENT))
    )
    person_ids: list[UUID] = list((await session.scalars(chosen)).all())
    attributes = {
        path.removeprefix("attributes."): value for path, value in node.set.items() if path.startswith("attributes.")
    }
    fields = {path: None if v is None else str(v) for path, v in node.set.items() if not path.startswith("attributes.")}
    by = Actor.journey(step.version.journey_id)
    await bulk.set_fields(session, person_ids, fields=fields, attributes=attributes, by=by)
    return {}


async def _plan_wait(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    node = step.version.definition.nodes[step.node]
    if isinstance(node, WaitUntilNode):
        return _stayed(await meeting.look(session, step.at, members, node))
    if not isinstance(node, WaitNode | TimeWindowNode):
        raise TypeError(f"node {step.node} is not a wait")
    return _stayed(await waiting.plan(session, step.at, members, node))


async def _leave_wait(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    node = step.version.definition.nodes[step.node]
    if not isinstance(node, WaitNode | TimeWindowNode):
        raise TypeError(f"node {step.node} is not a wait")
    return _stayed(await waiting.leave(session, step.at, members, node))


def _stayed(stay: Stay) -> StepOutcome:
    return StepOutcome(outcomes=stay.outcomes, waits=stay.waits)


async def _leave_wait_for_event(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    node = step.version.definition.nodes[step.node]
    if isinstance(node, WaitUntilNode):
        return _stayed(await meeting.look(session, step.at, members, node))

    def leaving() -> Any:  # noqa: ANN401 - a select
        held = held_waiters(members, *step.passage, matched_only=not step.timed_out)
        join, columns = by_waiter(held, timed_out=step.timed_out)
        return standing(members, *step.passage, *columns).select_from(join)

    if isinstance(step.version.definition.nodes[step.node], WebhookNode):
        return await leave_call(session, step, members)
    return StepOutcome(outcomes=await _move(session, step, members, leaving, waits=True))


async def leave_call(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    """Move on whose call has ended; the others stay until theirs has."""

    def leaving() -> Any:  # noqa: ANN401 - a select
        join, columns = answering.ended(session.tenant_id, *step.passage)
        return standing(members, *step.passage, *columns).select_from(join)

    done = StepOutcome(outcomes=await _move(session, step, members, leaving))
    # Somebody may have had the call made once more.
    done.listening = await answering.staying(session, members, *step.passage)
    return done


async def pass_through(session: TenantSession, step: Step, members: CohortMembers, outcome: str) -> dict[str, int]:
    """Move members through a node with one way out; return who left it by which outcome."""
    return await _move(session, step, members, lambda: standing(members, *step.passage, *constant(outcome)))


async def note(session: TenantSession, step: Step, details: Mapping[UUID, Mapping[str, Any]]) -> None:
    """Keep with the steps just taken what came of them, by enrollment."""
    if not details:
        return
    given = (
        func.unnest(
            bindparam("enrollments", list(details), type_=ARRAY(Uuid)),
            bindparam("details", [dict(detail) for detail in details.values()], type_=ARRAY(JSONB)),
        )
        .table_valued(column("enrollment_id", Uuid), column("detail", JSONB))
        .render_derived(name="given")
    )
    await session.execute(
        update(STEP)
        .where(
            STEP.c.tenant_id == session.tenant_id,
            STEP.c.enrollment_id == given.c.enrollment_id,
            STEP.c.node == step.node,
            STEP.c.visit == step.visit,
        )
        .values(detail=func.coalesce(STEP.c.detail, literal({}, JSONB)).concat(given.c.detail))
    )


async def _move(
    session: TenantSession, step: Step, members: CohortMembers, leaving: Callable[[], Any], *, waits: bool = False
) -> dict[str, int]:
    how = Leaving(*step.passage, how=(step.kind, step.timed_out), select=leaving, onward=step.onward, waits=waits)
    return await move(session, step.version, members, how, attempt=step.attempt)


async def _classified(session: TenantSession, step: Step, members: CohortMembers) -> StepOutcome:
    """Say why members were not moved now: moved before, ended, parked or paused. A slot without a row is gone."""
    what = case(
        (STEP.c.outcome.is_not(None), func.concat("=", STEP.c.outcome)),
        (ENROLLMENT.c.ended_at.is_not(None), "gone"),
        (ENROLLMENT.c.status == "failed", "parked"),
        else_="held",
    )
    recorded = and_(
        STEP.c.tenant_id == session.tenant_id,
        STEP.c.enrollment_id == ENROLLMENT.c.id,
        STEP.c.node == step.node,
        STEP.c.visit == step.visit,
    )
    rows = await session.execute(
        select(what.label("what"), func.array_agg(ENROLLMENT.c.slot).label("slots"))
        .select_from(ENROLLMENT.join(STEP, recorded, isouter=True))
        .where(*members.within(ENROLLMENT))
        .group_by(what)
    )
    done = StepOutcome()
    for row in rows:
        slots = member_sets.from_slots(row.slots)
        match row.what:
            case "gone":
                done.gone |= slots
            case "parked":
                done.parked |= slots
            case "held":
                done.held |= slots
            case recorded_outcome:
                done.outcomes[recorded_outcome[1:]] = slots
    done.gone |= members.mask & ~done.answered()
    return done


Action = Callable[[TenantSession, Step, CohortMembers], Awaitable[StepOutcome]]
_ACTIONS: dict[RunKind, Action] = {
    "act": _act,
    "plan_wait": _plan_wait,
    "leave_wait": _leave_wait,
    "leave_wait_for_event": _leave_wait_for_event,
}

NodeAction = Callable[[TenantSession, Step, CohortMembers, Any], Awaitable[StepOutcome]]
Actions = Mapping[type[Any], NodeAction | Through]
"""What nodes do, by their type."""
OWN: Final[Actions] = MappingProxyType({BranchNode: _branch, UpdatePersonNode: Through(_update_person, people=True)})
