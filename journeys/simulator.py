"""The planner driven on a virtual clock: what a journey would do, with nothing done.

A `World` answers runs in the place of the activities. `ModelWorld` is one that keeps enrollments in memory and holds to
the activities' contract (`journeys.state`): it re-checks who is where, records each step once, and answers a repeated
run with what was recorded.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from journeys.members import from_slots, slots
from journeys.nodes import ExitNode, GoalNode
from journeys.plan import Plan
from journeys.planner import step
from journeys.state import ActivityResult, Done, Enrolled, Input, Run, State, TimerFired, WakeAt
from journeys.waits import MET


class World(Protocol):
    """What stands behind the planner: it executes runs."""

    def run(self, run: Run, now: datetime) -> ActivityResult:
        """Do what the activity of this run would."""
        ...


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulation ended."""

    state: State
    ended_at: datetime
    """When the last thing happened."""
    done: bool
    """Whether everybody came out; otherwise the time was up, or somebody waits for an event that never came."""


def simulate(
    plan: Plan,
    world: World,
    members: int,
    start: datetime,
    *,
    events: Iterable[tuple[datetime, Callable[[], Input]]] = (),
    until: datetime | None = None,
) -> Simulation:
    """Walk a cohort through a journey; activities take no time.

    Args:
        plan: the journey.
        world: who executes the runs.
        members: the cohort.
        start: when it is enrolled, aware.
        events: what happens meanwhile. Each is called at its time, changes the world, and answers what the planner is
            told. An event at the same instant as a timer comes first.
        until: stop here, whoever is left.
    """
    agenda = [(at, number, event) for number, (at, event) in enumerate(events)]
    heapq.heapify(agenda)
    state, now, wake = State(), start, None
    pending: list[Input] = [Enrolled(members)]
    while True:
        while pending:
            state, commands = step(plan, state, pending.pop(0), now)
            for command in commands:
                match command:
                    case Run():
                        pending.append(world.run(command, now))
                    case WakeAt(due):
                        wake = due
                    case Done():
                        return Simulation(state, now, done=True)
        upcoming = agenda[0][0] if agenda else None
        at = min((time for time in (wake, upcoming) if time is not None), default=None)
        if at is None or (until is not None and at > until):
            return Simulation(state, now, done=False)
        now = max(now, at)
        pending.append(heapq.heappop(agenda)[2]() if at == upcoming else TimerFired())


class StepKey(NamedTuple):
    """One passage of one member through one node."""

    slot: int
    node: str
    visit: int


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """How a member left a node, and when."""

    outcome: str
    at: datetime


@dataclass(slots=True)
class Enrollment:
    """One member as the database would know it."""

    node: str
    visit: int
    entered: datetime
    ended: str | None = None
    """Why it is over: `finished` at an exit node, else what ended it."""
    paused: bool = False
    parked: bool = False
    matched: bool = False
    """Whether the waiter of the node it is at was marked."""
    listening: bool = False
    """Whether the node it is at acted, and the answer is awaited."""


LISTENING: Final = datetime.max.replace(tzinfo=UTC)
"""As the time until when a member stays at a node: until it is matched, without end."""

Answer = str | datetime | None
"""What becomes of a member at a node: the outcome by which it leaves, until when it stays, or None where it fails."""
Choose = Callable[[int, str, int, datetime], Answer]
"""Of (slot, node, visit, now): what the action of a node answers."""
Due = Callable[[int, str, datetime], datetime | str]
"""Of (slot, node, entered): until when that member waits there, or the outcome by which it need not."""
Look = Callable[[int, Enrollment, Run, datetime], Answer]
"""Of (slot, enrollment, run, now): what `leave_wait_for_event` answers."""


def leave(_slot: int, person: Enrollment, run: Run, _now: datetime) -> Answer:
    """Leave a wait for an event matched, once it was, or else timed out."""
    if person.matched:
        return "matched"
    return "timed_out" if run.timed_out else None


@dataclass(slots=True)
class ModelWorld:
    """Enrollments in memory, moved as the activities would move them."""

    plan: Plan
    choose: Choose
    due: Due
    look: Look = leave
    people: dict[int, Enrollment] = field(default_factory=dict[int, Enrollment])
    steps: dict[StepKey, RecordedStep] = field(default_factory=dict[StepKey, RecordedStep])

    def enroll(self, members: int, now: datetime) -> None:
        """Put members at the start node."""
        for slot in slots(members):
            self.people[slot] = Enrollment("", 0, now)
            self._enter(slot, self.plan.start, 1, now)

    def match(self, slot: int) -> tuple[str, int] | None:
        """An event came for this member: mark its waiter, if it has one, and say at which node and visit."""
        person = self.people[slot]
        if person.ended is not None or person.matched or not self._listens(person):
            return None
        person.matched = True
        return person.node, person.visit

    def take_on(self, slot: int, now: datetime) -> tuple[str, int, str] | None:
        """An event came that takes this member off its wait, if it may; say from which passage, by which outcome."""
        person = self.people[slot]
        aside = person.ended is not None or person.paused or person.parked
        if aside or person.matched or self.plan.acts(person.node) or not self._listens(person):
            return None
        node, visit = person.node, person.visit
        outcome = "matched" if self.plan.move(node, visit, "matched") else f"{MET}0"
        self._leave(slot, node, visit, outcome, now)
        return node, visit, outcome

    def run(self, run: Run, now: datetime) -> ActivityResult:
        """Execute a run, once per member and passage.

        Raises:
            ValueError: the run is for somebody who is not there, which a right planner never asks.
        """
        outcomes: dict[str, list[int]] = {}
        waits: dict[datetime, list[int]] = {}
        refused: dict[str, list[int]] = {"held": [], "parked": [], "gone": []}
        for slot in slots(run.members):
            person = self.people[slot]
            recorded = self.steps.get(StepKey(slot, run.node, run.visit))
            if recorded is not None:
                outcomes.setdefault(recorded.outcome, []).append(slot)
            elif person.ended is not None:
                refused["gone"].append(slot)
            elif (person.node, person.visit) != (run.node, run.visit):
                raise ValueError(f"slot {slot} is at {person.node}, not at {run.node}")
            elif person.parked:
                refused["parked"].append(slot)
            elif person.paused:
                refused["held"].append(slot)
            elif (answer := self._answer(run, slot, now)) is None:
                person.parked = True
                refused["parked"].append(slot)
            elif isinstance(answer, datetime):
                person.listening = person.listening or answer == LISTENING
                person.matched = person.matched and run.kind != "leave_wait_for_event"
                waits.setdefault(answer, []).append(slot)
            else:
                self._leave(slot, run.node, run.visit, answer, now)
                outcomes.setdefault(answer, []).append(slot)
        listening = waits.pop(LISTENING, [])
        return ActivityResult(
            run.id,
            outcomes={outcome: from_slots(numbers) for outcome, numbers in outcomes.items()},
            waits=tuple((due, from_slots(waits[due])) for due in sorted(waits)),
            listening=from_slots(listening),
            held=from_slots(refused["held"]),
            parked=from_slots(refused["parked"]),
            gone=from_slots(refused["gone"]),
        )

    def _listens(self, person: Enrollment) -> bool:
        return self.plan.rests(person.node) == "listen" and (person.listening or not self.plan.acts(person.node))

    def _answer(self, run: Run, slot: int, now: datetime) -> Answer:
        match run.kind:
            case "act":
                return self.choose(slot, run.node, run.visit, now)
            case "plan_wait":
                return self.due(slot, run.node, self.people[slot].entered)
            case "leave_wait":
                # who is not due, as it was replanned on its way here, waits on
                planned = self.plan.plans(run.node) and self.due(slot, run.node, self.people[slot].entered)
                return planned if isinstance(planned, datetime) and planned > now else "elapsed"
            case "leave_wait_for_event":
                return self.look(slot, self.people[slot], run, now)

    def _leave(self, slot: int, node: str, visit: int, outcome: str, now: datetime) -> None:
        self.steps[StepKey(slot, node, visit)] = RecordedStep(outcome, now)
        target = self.plan.move(node, visit, outcome)
        if target is None:
            raise ValueError(f"node {node} has no outcome {outcome}")
        self._enter(slot, *target, now)

    def _enter(self, slot: int, node: str, visit: int, now: datetime) -> None:
        person = self.people[slot]
        person.node, person.visit, person.entered, person.matched, person.listening = node, visit, now, False, False
        if isinstance(self.plan.nodes[node], ExitNode | GoalNode):
            person.ended = "finished"
