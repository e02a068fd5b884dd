"""The planner: what a cohort does next, decided by a pure function of what happened.

`step(plan, state, given, now)` takes one input and answers the new state and the commands to execute. It reads no clock
and does no I/O; equal inputs give equal answers, so a Temporal workflow drives it through crashes, the simulator on a
virtual clock, and tests without either.

How a driver must behave
------------------------
**Feeding.** The first input is `Enrolled`; what arrives before it waits. Every other input is fed where it arrives, one
at a time, with the driver's clock, which never runs backwards. Inputs about members who already left or finished, and
results of runs already answered, change nothing: feeding twice is harmless.

**Commands.** `step` answers any number of `Run`, then exactly one `WakeAt` or `Done`.

- `Run`: execute the activity, feed back `ActivityResult` or `ActivityFailed` under its `id`. Runs of one answer are
  independent and may go on at once. Members of two unanswered runs are always disjoint, and at most one run is
  unanswered for each (node, visit, kind, timed_out): who comes to a busy node waits, and all go together in the next.
- `WakeAt`: feed `TimerFired` at that time; it replaces any earlier wake time. The planner looks at `now` with every
  input, so a timer that fires early or late is harmless.
- `Done`: nobody is left and no run is unanswered. The driver ends.

**Continue-as-new.** Pass the state on. Best when `state.flights` is empty; otherwise execute `state.runs()` again (the
activities are idempotent). Then feed `TimerFired`: it answers the wake time.

**Sandbox.** A workflow imports `journeys` modules passed through, by name: `datetime` refuses what the sandbox puts in
place of `ZoneInfo`. A test holds these modules to reading no clock.

What is fed (`journeys.state` says what an activity must do)
------------------------------------------------------------
A run whose activity fails for good may have committed all the same. So the driver executes one more activity, which
answers for those who were moved or have ended, parks the rest, and feeds its result under the run's `id`.
`ActivityFailed` is for when not even that works: the planner parks all members, wherever they are in Postgres, until
`Retry`.

`Hold`, `Release` and `Retry` are fed after the change they tell of is committed, and in the order of those commits; a
driver that cannot know the order asks Postgres how things stand and feeds that. A `Leave` may be late: an activity
answers `gone` by then.

`Replan` is fed after a change is committed that moves due times which an activity computed: another time zone of the
person, another date, another rate. Members who wait or listen at a node that plans (`plan.plans`) go back to be
planned, whatever they waited for, and so do those whom a run in flight has stay: it may have looked before the change.
One who comes to the node later is planned after the change anyway. Members told to act again later do so now. So
answers must rest on what Postgres says when asked, and on when a member came; to tell too many, or twice, is harmless.

`Matched` may come at any time after the members' move to a node that listens (or the effect that has them listen) was
committed: before the planner knows they are there, while a run there is in flight, while they are being planned. It
has them leave by `leave_wait_for_event` (`timed_out` False) as soon as they would listen; if that run has them stay,
they listen on, and a match that came while it was in flight has it run once more.

`Moved` is for members whom somebody else than a run moved off a node, as an activity would: their steps are recorded,
and they stand where the outcome leads. It may come at any time after their move to that node was committed. They go on
from where they stand by now: at once, or as soon as an earlier run is answered that the planner knows them in.

How it works
------------
A member is in one group, in one flight (a run not answered), finished or left. A group is keyed by node, visit, phase
and due time, so members who meet merge. Held and parked members keep their place; they are left out when runs are made.
After every input, whatever is runnable and due at `now` becomes runs. Who listens is in phase `listen` until it is
due, or in `hear` where nothing but a match ends it.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, assert_never

from journeys.plan import Plan
from journeys.state import (
    ActivityFailed,
    ActivityResult,
    Command,
    Done,
    Early,
    Enrolled,
    Flight,
    Group,
    Hold,
    Input,
    Leave,
    Matched,
    Moved,
    Phase,
    Release,
    Replan,
    Retry,
    Run,
    RunKind,
    State,
    TimerFired,
    WakeAt,
)


def step(plan: Plan, state: State, given: Input, now: datetime) -> tuple[State, list[Command]]:
    """What follows from one input: the next state, and the commands to execute.

    Args:
        plan: the graph the cohort walks; the same one for the whole life of the state.
        state: what the previous call answered, `State()` at first. It is not changed.
        given: what happened.
        now: the driver's time, aware; never earlier than in the previous call.
    """
    draft = _Draft(plan, state, now.astimezone(UTC))
    draft.take(given)
    commands = draft.dispatch()
    return draft.state(), commands


class _Place(NamedTuple):
    node: str
    visit: int
    phase: Phase
    due: datetime | None


class _RunKey(NamedTuple):
    node: str
    visit: int
    kind: RunKind
    timed_out: bool


_RUN_OF_PHASE: dict[Phase, tuple[RunKind, bool]] = {
    "act": ("act", False),
    "plan": ("plan_wait", False),
    "wait": ("leave_wait", False),
    "listen": ("leave_wait_for_event", True),
    "matched": ("leave_wait_for_event", False),
}
_PHASE_OF_RUN: dict[tuple[RunKind, bool], Phase] = {run: phase for phase, run in _RUN_OF_PHASE.items()}
_LISTENING = frozenset[Phase]({"listen", "hear"})
_RESTING = frozenset[Phase]({"wait", *_LISTENING})
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _order(place: _Place) -> tuple[str, int, Phase, datetime]:
    return place.node, place.visit, place.phase, place.due or _LONG_AGO


class _Draft:
    """A state in the making."""

    def __init__(self, plan: Plan, state: State, now: datetime) -> None:
        self._plan = plan
        self._now = now
        self._groups = {_Place(g.node, g.visit, g.phase, g.due): g.members for g in state.groups}
        self._flights = {flight.run.id: flight for flight in state.flights}
        self._early = {(early.node, early.visit, early.outcome): early.members for early in state.early}
        self._started = state.started
        self._on_hold = state.on_hold
        self._parked = state.parked
        self._finished = state.finished
        self._left = state.left
        self._next_id = state.next_id

    def state(self) -> State:
        """The finished state, in canonical order."""
        return State(
            started=self._started,
            groups=tuple(Group(*place, self._groups[place]) for place in sorted(self._groups, key=_order)),
            flights=tuple(self._flights[command_id] for command_id in sorted(self._flights)),
            early=tuple(
                Early(node, visit, self._early[node, visit, outcome], outcome)
                for node, visit, outcome in sorted(self._early)
            ),
            on_hold=self._on_hold,
            parked=self._parked,
            finished=self._finished,
            left=self._left,
            next_id=self._next_id,
        )

    # -- Inputs --

    def take(self, given: Input) -> None:
        match given:
            case Enrolled(members):
                self._started = True
                self._enter(self._plan.start, 1, members & ~(self._inside() | self._finished | self._left))
            case TimerFired():
                pass
            case ActivityResult():
                self._settle(given)
            case ActivityFailed(command_id):
                # a result that names nobody: the run's members are parked
                self._settle(ActivityResult(command_id))
            case Matched() | Moved():
                self._hear(given)
            case Replan(members):
                self._replan(members)
            case Leave(members):
                self._leave(members)
            case Hold(members):
                self._on_hold |= members & self._inside()
            case Release() | Retry():
                self._let_on(given)
            case _:
                assert_never(given)
        self._forget_passed()

    def _settle(self, result: ActivityResult) -> None:
        flight = self._flights.pop(result.command_id, None)
        if flight is None:
            return
        run = flight.run
        rest = run.members

        def claim(members: int) -> int:
            nonlocal rest
            claimed = members & rest
            rest ^= claimed
            return claimed

        self._drop(claim(result.gone))
        parked = claim(result.parked)
        held = claim(result.held)
        resting = self._plan.rests(run.node)
        for due, members in result.waits:
            self._rest(flight, resting, due.astimezone(UTC), claim(members))
        self._rest(flight, "hear", None, claim(result.listening))
        for outcome in sorted(result.outcomes):
            target = self._plan.move(run.node, run.visit, outcome)
            if target is not None:
                self._enter(*target, claim(result.outcomes[outcome]))
        for node, visit, members in result.arrived:
            if node in self._plan.nodes:
                self._enter(node, visit, claim(members))
        parked |= rest
        # Retried or released, they do again what they were about.
        self._rest(flight, _PHASE_OF_RUN[run.kind, run.timed_out], None, parked | held)
        self._on_hold |= held & ~flight.released
        self._parked |= parked & ~flight.retried

    def _hear(self, told: Matched | Moved) -> None:
        key = told.node, told.visit, told.outcome if isinstance(told, Moved) else ""
        # whoever is not there yet: _forget_passed keeps those who may still come
        self._early[key] = self._early.get(key, 0) | told.members
        for place in [place for place in self._groups if place[:2] == key[:2]]:
            self._settle_down(place, self._groups.pop(place))

    def _let_on(self, given: Release | Retry) -> None:
        members = given.members
        if isinstance(given, Release):
            self._on_hold &= ~members
        else:
            self._parked &= ~members
        for key, flight in self._flights.items():
            since = members & flight.run.members
            self._flights[key] = (
                replace(flight, released=flight.released | since)
                if isinstance(given, Release)
                else replace(flight, retried=flight.retried | since)
            )

    def _replan(self, members: int) -> None:
        for place in list(self._groups):
            if place.phase in _RESTING and self._plan.plans(place.node):
                first: Phase = "plan"
            elif place.phase == "act" and place.due is not None:
                first = "act"
            else:
                continue
            again = self._groups[place] & members
            self._take_from(place, again)
            self._put(_Place(place.node, place.visit, first, None), again)
        self._flights = {
            key: replace(flight, replanned=flight.replanned | (members & flight.run.members))
            for key, flight in self._flights.items()
        }

    def _leave(self, members: int) -> None:
        members &= self._inside()
        for place in list(self._groups):
            self._take_from(place, members)
        # a flight keeps its place even if empty: its activity still runs, and its answer must not outlive the driver
        self._flights = {
            key: replace(flight, run=replace(flight.run, members=flight.run.members & ~members))
            for key, flight in self._flights.items()
        }
        self._drop(members)

    # -- Places --

    def _enter(self, node: str, visit: int, members: int) -> None:
        if not members:
            return
        arrival = self._plan.arrival(node, self._now)
        if arrival is None:
            self._finished |= members
            self._forget(members)
            return
        self._settle_down(_Place(node, visit, *arrival), members)

    def _rest(self, flight: Flight, phase: Phase, due: datetime | None, members: int) -> None:
        """Have members whom a run answered stay at its node; those replanned since it began are planned once more."""
        node, visit = flight.run.node, flight.run.visit
        if phase in _RESTING and self._plan.plans(node):
            self._put(_Place(node, visit, "plan", None), members & flight.replanned)
            members &= ~flight.replanned
        elif phase == "act":
            self._put(_Place(node, visit, "act", None), members & flight.replanned)
            members &= ~flight.replanned
        self._settle_down(_Place(node, visit, phase, due), members)

    def _settle_down(self, place: _Place, members: int) -> None:
        matched = members & self._early.get((place.node, place.visit, ""), 0) if place.phase in _LISTENING else 0
        self._put(_Place(place.node, place.visit, "matched", None), matched)
        self._put(place, members & ~matched)

    def _put(self, place: _Place, members: int) -> None:
        for node, visit, outcome in [key for key in self._early if key[:2] == place[:2] and key[2]]:
            target, gone = self._plan.move(node, visit, outcome), members & self._early[node, visit, outcome]
            if target is not None:
                members ^= gone
                self._enter(*target, gone)
        if members:
            self._groups[place] = self._groups.get(place, 0) | members

    def _take_from(self, place: _Place, members: int) -> None:
        kept = self._groups[place] & ~members
        if kept:
            self._groups[place] = kept
        else:
            del self._groups[place]

    def _drop(self, members: int) -> None:
        self._left |= members
        self._forget(members)

    def _forget(self, members: int) -> None:
        self._on_hold &= ~members
        self._parked &= ~members

    def _forget_passed(self) -> None:
        coming = {key: members & self._coming(*key[:2]) for key, members in self._early.items()}
        self._early = {key: members for key, members in coming.items() if members}

    def _coming(self, node: str, visit: int) -> int:
        """Return who may still come to listen at a passage."""
        coming = 0
        for place, there in self._groups.items():
            here = (place.node, place.visit) == (node, visit) and place.phase not in {*_LISTENING, "matched"}
            if here or self._plan.may_come(place.node, place.visit, node, visit):
                coming |= there
        for flight in self._flights.values():
            run = flight.run
            # one in flight at that very node may come back to stay, what was told of it not yet acted upon
            if (run.node, run.visit) == (node, visit) or self._plan.may_come(run.node, run.visit, node, visit):
                coming |= run.members
        return coming

    def _inside(self) -> int:
        members = 0
        for there in self._groups.values():
            members |= there
        for flight in self._flights.values():
            members |= flight.run.members
        return members

    # -- Commands --

    def dispatch(self) -> list[Command]:
        """Turn all that can go on now into runs, and say when to look again."""
        busy = {_RunKey(f.run.node, f.run.visit, f.run.kind, f.run.timed_out) for f in self._flights.values()}
        going: dict[_RunKey, int] = {}
        wake: datetime | None = None
        for place in list(self._groups):
            ready = self._groups[place] & ~self._on_hold & ~self._parked
            if not ready or place.phase == "hear":
                continue
            if place.due is not None and place.due > self._now:
                wake = place.due if wake is None else min(wake, place.due)
                continue
            key = _RunKey(place.node, place.visit, *_RUN_OF_PHASE[place.phase])
            if key in busy:
                continue
            going[key] = going.get(key, 0) | ready
            self._take_from(place, ready)
        commands: list[Command] = []
        for key in sorted(going):
            run = Run(self._next_id, key.kind, key.node, key.visit, going[key], key.timed_out)
            self._next_id += 1
            self._flights[run.id] = Flight(run)
            commands.append(run)
        if self._started and not self._groups and not self._flights:
            commands.append(Done(self._finished.bit_count(), self._left.bit_count()))
        else:
            commands.append(WakeAt(wake))
        return commands
