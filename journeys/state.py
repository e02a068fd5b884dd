"""What the planner is told, what it asks for, and what it remembers in between: plain values that travel as JSON.

`journeys.planner` says how a driver must treat them. An input is fed to the planner where it arrives and never stored:
several kinds look alike as JSON. `State` and what it holds are made to be stored.

What an activity must do
------------------------
Postgres is the judge of where everybody is; the planner only follows. In one transaction, for the members of the run:

1. whose step (enrollment, node, visit) is recorded already, because an earlier attempt committed: report the outcome it
   recorded (for `plan_wait`, the same due times: compute them from when the member entered the node), change nothing;
2. whose enrollment has ended: `gone`; who is paused: `held`; for whom the node fails, or who is parked: `parked`;
3. who is to stay at the node: answer until when (`waits`), or that only a `Matched` ends it (`listening`), and write no
   step. Any run may. They rest as `plan.rests(node)` says: a wait is left by `leave_wait` when it is due; one who
   listens by `leave_wait_for_event`, when matched or due; at any other node `act` runs again when it is due, and so
   looks again. Due at once is due now: such a run must get on in the end, or the driver spins;
4. the rest: have the effect, write the step, and move to `plan.move(node, visit, outcome)`, with what entering there
   writes: entering `wait_for_event` writes the waiter, entering `exit` ends the enrollment. Enrolling does the same for
   the start node. So `plan_wait` too moves on whom it finds in no need of waiting, by any outcome of the node. Where
   nodes that only act follow, it may do what they do as well, write their steps, and move to where the last of them
   leads: it answers who came there (`arrived`) instead of the outcome. Asked again, it answers the outcome it recorded,
   and so does each of the runs that follow.

A member the result does not name is parked by the planner, as is one with an outcome its node does not have.

`Members` are sets of slots (`journeys.members`); all times are aware and UTC.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from journeys.members import Members

# -- Inputs: what happened -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enrolled:
    """These slots stand at the start node, in Postgres already, with what entering that node writes there."""

    members: Members


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Time passed; nothing else happened."""


@dataclass(frozen=True, slots=True)
class ActivityResult:
    """What a `Run` did, once its transaction committed. The sets are disjoint and together are the run's members."""

    command_id: int
    outcomes: dict[str, Members] = field(default_factory=dict[str, Members])
    """Members moved on, by outcome: `done`, `elapsed`, `matched`, `timed_out`, `branch_0`..., `otherwise`."""
    waits: tuple[tuple[datetime, Members], ...] = ()
    """Members who stay at the node until then, resting there as `Plan.rests` says."""
    listening: Members = 0
    """Members who stay at the node until a `Matched`, without end."""
    held: Members = 0
    """Members not touched because their journey or enrollment is paused in Postgres."""
    parked: Members = 0
    """Members for whom the node failed; Postgres has them as parked."""
    gone: Members = 0
    """Members whose enrollment has ended in Postgres."""
    arrived: tuple[tuple[str, int, Members], ...] = ()
    """Members moved on further than to the next node, as the run did what lies between: node and visit, and who."""


@dataclass(frozen=True, slots=True)
class ActivityFailed:
    """A `Run` failed for good; its members are parked, in Postgres too."""

    command_id: int


@dataclass(frozen=True, slots=True)
class Matched:
    """The relay marked the waiters of these members, at this passage through the node, as matched."""

    node: str
    visit: int
    members: Members


@dataclass(frozen=True, slots=True)
class Moved:
    """These members were moved off this passage by that outcome in Postgres, by somebody else than a `Run`."""

    node: str
    visit: int
    outcome: str
    members: Members


@dataclass(frozen=True, slots=True)
class Leave:
    """The enrollments of these members ended in Postgres: goal, exit condition, cancel, or by hand."""

    members: Members


@dataclass(frozen=True, slots=True)
class Hold:
    """These members are paused in Postgres: take no step for them until `Release`."""

    members: Members


@dataclass(frozen=True, slots=True)
class Release:
    """These members are no longer paused in Postgres; what fell due meanwhile is due now."""

    members: Members


@dataclass(frozen=True, slots=True)
class Retry:
    """These members are no longer parked in Postgres: try their node again."""

    members: Members


@dataclass(frozen=True, slots=True)
class Replan:
    """What the due times of these members depend on has changed in Postgres: ask anew until when they wait."""

    members: Members


Input: TypeAlias = (
    Enrolled | TimerFired | ActivityResult | ActivityFailed | Matched | Moved | Leave | Hold | Release | Retry | Replan
)

# -- Commands: what to do ------------------------------------------------------------------------------------------

RunKind: TypeAlias = Literal["act", "plan_wait", "leave_wait", "leave_wait_for_event"]


@dataclass(frozen=True, slots=True)
class Run:
    """Run one activity for these members, and feed back an `ActivityResult` or `ActivityFailed` with this `id`."""

    id: int
    """Counts from 1 in a cohort, never used again: good for an activity id."""
    kind: RunKind
    """What to do.

    - `act`: what the `send`, `update_person` or `branch` node does; moves members on, or has them look again later
      (`waits`), or wait for what it began to end (`listening`).
    - `plan_wait`: compute until when each member waits (`waits`); moves on who need not wait, or cannot.
    - `leave_wait`: the wait is over; moves members on, outcome `elapsed`, or has them wait on (`waits`).
    - `leave_wait_for_event`: see `timed_out`; here too `waits` and `listening` have members stay.
    """
    node: str
    visit: int
    members: Members
    timed_out: bool = False
    """For `leave_wait_for_event`. False: these were matched, move them, outcome `matched`. True: their time is out,
    move those whose waiter is marked matched with outcome `matched`, the rest with `timed_out`."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Feed `TimerFired` at `due`, and forget any other wake time; with None, at no time."""

    due: datetime | None


@dataclass(frozen=True, slots=True)
class Done:
    """Nobody is left in the journey: no member at any node, no run in flight."""

    finished: int
    """Members who came to an exit node."""
    left: int
    """Members who left on the way."""


Command: TypeAlias = Run | WakeAt | Done

# -- State: what is known ------------------------------------------------------------------------------------------

Phase: TypeAlias = Literal["act", "plan", "wait", "listen", "hear", "matched"]
"""What members at a node are about: `act` the node's action is to run, once it is due; `plan` their due time is to be
computed; `wait` until due; `listen` for an event, until due; `hear` listen without end; `matched` the event came, they
are to leave."""


@dataclass(frozen=True, slots=True)
class Group:
    """Members at one node in one passage and phase, with one due time, and in no run."""

    node: str
    visit: int
    phase: Phase
    due: datetime | None
    """Until when they wait, in phases `act`, `wait` and `listen`; None: no longer, they go on as soon as they may."""
    members: Members


@dataclass(frozen=True, slots=True)
class Flight:
    """A `Run` that was asked for and has not been answered."""

    run: Run
    """As asked for, less the members who left since."""
    released: Members = 0
    """Members released since it began: if it returns them as held, it looked before their release."""
    retried: Members = 0
    """Members retried since it began: if it returns them as parked, it failed before their retry."""
    replanned: Members = 0
    """Members whose due times changed since it began: where it has them wait, it may have looked before the change."""


@dataclass(frozen=True, slots=True)
class Early:
    """What was told of members before they were known to wait at that node: a match, or a move by an outcome."""

    node: str
    visit: int
    members: Members
    outcome: str = ""
    """By which they were moved; none for a match."""


@dataclass(frozen=True, slots=True)
class NodeCount:
    """How many members stand at a node, by what they do there; each is counted once."""

    running: int = 0
    """In an activity now."""
    ready: int = 0
    """Waiting for an activity of the same node to return."""
    waiting: int = 0
    """Waiting for a time or an event."""
    held: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Progress of a cohort, in counts."""

    nodes: dict[str, NodeCount]
    """Nodes where somebody is, in the order of their names."""
    finished: int
    left: int


@dataclass(frozen=True, slots=True)
class State:
    """Where every member of a cohort is. Equal histories give equal states; nothing changes one in place.

    A member is in exactly one of: a group, a flight, `finished`, `left`.
    """

    started: bool = False
    """Whether `Enrolled` was seen."""
    groups: tuple[Group, ...] = ()
    flights: tuple[Flight, ...] = ()
    early: tuple[Early, ...] = ()
    on_hold: Members = 0
    """Members to take no step for, in a group or a flight."""
    parked: Members = 0
    """Members whose node failed, in a group."""
    finished: Members = 0
    left: Members = 0
    next_id: int = 1

    def runs(self) -> list[Run]:
        """The runs not answered yet: after continue-as-new, the driver executes these again."""
        return [flight.run for flight in self.flights]

    def inside(self) -> int:
        """The members still in the journey."""
        members = 0
        for group in self.groups:
            members |= group.members
        for flight in self.flights:
            members |= flight.run.members
        return members

    def summary(self) -> Summary:
        """Counts per node and phase, for progress reports."""
        counts: dict[str, dict[str, int]] = {}

        def add(node: str, what: str, members: int) -> None:
            if members:
                row = counts.setdefault(node, {})
                row[what] = row.get(what, 0) + members.bit_count()

        for flight in self.flights:
            add(flight.run.node, "running", flight.run.members)
        for group in self.groups:
            add(group.node, "parked", group.members & self.parked)
            add(group.node, "held", group.members & self.on_hold & ~self.parked)
            moving = group.members & ~self.parked & ~self.on_hold
            rests = group.phase in {"wait", "listen", "hear"} or group.due is not None
            add(group.node, "waiting" if rests else "ready", moving)
        return Summary(
            nodes={node: NodeCount(**counts[node]) for node in sorted(counts)},
            finished=self.finished.bit_count(),
            left=self.left.bit_count(),
        )
