"""The planner under chance: any journey, any order of events, results lost and repeated, state stored and restored."""

from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import TypeAdapter

from journeys.members import everyone, from_slots, slots
from journeys.nodes import ExitNode, GoalNode
from journeys.plan import Plan
from journeys.planner import step
from journeys.simulator import ModelWorld, StepKey
from journeys.state import (
    ActivityFailed,
    ActivityResult,
    Command,
    Done,
    Enrolled,
    Group,
    Hold,
    Input,
    Leave,
    Matched,
    Moved,
    Release,
    Replan,
    Retry,
    Run,
    State,
    TimerFired,
    WakeAt,
)
from tests.journeys.random_journeys import START, LoosePlan, plans
from tests.journeys.random_worlds import HOUR, chance_world

STATE = TypeAdapter(State)
SIZE = 6
SLOTS = st.integers(0, SIZE - 1)
SUBSETS = st.integers(1, everyone(SIZE))


class Cohort(RuleBasedStateMachine):
    """A driver beside a world; signals arrive in order, results whenever they please."""

    plan: LoosePlan
    world: ModelWorld

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.state = State()
        self.wake: datetime | None = None
        self.done: Done | None = None
        self.open_runs: dict[int, Run] = {}
        self.results: list[ActivityResult] = []
        self.signals: deque[Input] = deque()
        self.told_matched: set[tuple[int, str, int]] = set()
        """And not looked at since."""
        self.told_moved: set[tuple[int, str, int]] = set()
        self.moved: dict[int, timedelta] = {}
        self.signals_overtake = False
        self.fed: list[tuple[Input, datetime]] = []
        self.answers: list[list[Command]] = []

    @initialize(
        plan=plans(),
        seed=st.integers(0, 1000),
        fail=st.dictionaries(SLOTS, st.integers(1, 2), max_size=2),
        signals_overtake=st.booleans(),
    )
    def enroll(self, plan: LoosePlan, seed: int, fail: dict[int, int], signals_overtake: bool) -> None:
        self.plan = plan
        self.signals_overtake = signals_overtake
        failures = {(slot, node): times for slot, times in fail.items() for node in plan.nodes}
        self.world = chance_world(plan, seed, failures=failures, moved=self.moved)
        self.world.enroll(everyone(SIZE), self.now)
        self.feed(Enrolled(everyone(SIZE)))

    # -- What the driver does --

    def feed(self, given: Input) -> None:
        before = STATE.dump_json(self.state)
        state, commands = step(self.plan, self.state, given, self.now)
        assert STATE.dump_json(self.state) == before, "the input state was changed"
        self.state = state
        self.fed.append((given, self.now))
        if isinstance(given, Matched):
            self.told_matched |= {(slot, given.node, given.visit) for slot in slots(given.members)}
        if isinstance(given, Moved):
            self.told_moved |= {(slot, given.node, given.visit) for slot in slots(given.members)}
        self.answers.append(commands)
        if isinstance(given, ActivityResult | ActivityFailed):
            self.open_runs.pop(given.command_id, None)
        for command in commands:
            match command:
                case Run():
                    assert command.id not in self.open_runs
                    assert command.members
                    self.told_matched -= {(slot, command.node, command.visit) for slot in slots(command.members)}
                    self.open_runs[command.id] = command
                case WakeAt(due):
                    assert command is commands[-1]
                    self.wake = due
                case Done():
                    assert command is commands[-1]
                    self.done = command

    @precondition(lambda self: self.open_runs)
    @rule(data=st.data(), commit=st.booleans())
    def execute(self, data: st.DataObject, commit: bool) -> None:
        """An activity commits; its result is on the way, or lost and the activity tried again later."""
        run = data.draw(st.sampled_from(list(self.open_runs.values())))
        result = self.world.run(run, self.now)
        if commit:
            self.results.append(result)

    @precondition(lambda self: self.results)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, again: bool) -> None:
        result = data.draw(st.sampled_from(self.results))
        if not again:
            self.results.remove(result)
        self.feed(result)

    @precondition(lambda self: self.open_runs)
    @rule(data=st.data(), commit=st.booleans(), told=st.booleans())
    def fail(self, data: st.DataObject, commit: bool, told: bool) -> None:
        """An activity fails for good, having committed or not; the driver parks what is left in Postgres."""
        run = data.draw(st.sampled_from(list(self.open_runs.values())))
        if commit:
            self.world.run(run, self.now)
        untouched = not any(StepKey(slot, run.node, run.visit) in self.world.steps for slot in slots(run.members))
        for slot in slots(run.members):
            person = self.world.people[slot]
            if person.ended is None and StepKey(slot, run.node, run.visit) not in self.world.steps:
                person.parked = True
        result = self.world.run(run, self.now)
        self.feed(ActivityFailed(run.id) if told and untouched else result)

    @precondition(lambda self: self.signals)
    @rule(most=st.integers(1, 12))
    def signal(self, most: int) -> None:
        for _ in range(min(most, len(self.signals))):
            self.feed(self.signals.popleft())

    @rule(hours=st.integers(0, 3))
    def tick(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.feed(TimerFired())

    @precondition(lambda self: self.wake is not None)
    @rule()
    def wake_up(self) -> None:
        assert self.wake is not None
        self.now = max(self.now, self.wake)
        self.feed(TimerFired())

    @rule()
    def continue_as_new(self) -> None:
        self.state = STATE.validate_json(STATE.dump_json(self.state))
        again = {run.id: run for run in self.state.runs()}
        assert {key: replace(run, members=0) for key, run in again.items()} == {
            key: replace(run, members=0) for key, run in self.open_runs.items()
        }
        self.open_runs = again
        self.feed(TimerFired())

    # -- What happens in Postgres --

    @rule(members=SUBSETS)
    def pause(self, members: int) -> None:
        for slot in slots(members):
            self.world.people[slot].paused = True
        self.signals.append(Hold(members))

    @rule(members=SUBSETS)
    def resume(self, members: int) -> None:
        for slot in slots(members):
            self.world.people[slot].paused = False
        self.signals.append(Release(members))

    @rule(members=SUBSETS)
    def retry(self, members: int) -> None:
        for slot in slots(members):
            self.world.people[slot].parked = False
        self.signals.append(Retry(members))

    @rule(members=SUBSETS, times=st.integers(1, 2))
    def match(self, members: int, times: int) -> None:
        for slot in slots(members):
            passage = self.world.match(slot)
            if passage is not None:
                self.signals.extend([Matched(*passage, from_slots([slot]))] * times)

    @rule(members=SUBSETS, times=st.integers(1, 2))
    def take_on(self, members: int, times: int) -> None:
        for slot in slots(members):
            passed = self.world.take_on(slot, self.now)
            if passed is not None:
                self.signals.extend([Moved(*passed, from_slots([slot]))] * times)

    @rule(members=SUBSETS, hours=st.integers(-5, 5))
    def move_dates(self, members: int, hours: int) -> None:
        for slot in slots(members):
            self.moved[slot] = hours * HOUR
        self.signals.append(Replan(members))

    @rule(slot=SLOTS)
    def leave(self, slot: int) -> None:
        person = self.world.people[slot]
        person.ended = person.ended or "goal"
        if person.ended == "goal":
            self.signals.append(Leave(from_slots([slot])))

    # -- What must hold --

    @invariant()
    def everybody_is_in_exactly_one_place(self) -> None:
        if not self.fed:
            return
        places = [group.members for group in self.state.groups]
        places += [flight.run.members for flight in self.state.flights]
        places += [self.state.finished, self.state.left]
        assert sum(members.bit_count() for members in places) == SIZE
        union = 0
        for members in places:
            union |= members
        assert union == everyone(SIZE)
        assert (self.state.on_hold | self.state.parked) & ~self.state.inside() == 0
        assert all(group.members for group in self.state.groups)

    @invariant()
    def nobody_is_asked_for_twice(self) -> None:
        keys = [(f.run.node, f.run.visit, f.run.kind, f.run.timed_out) for f in self.state.flights]
        assert len(keys) == len(set(keys))

    @invariant()
    def everybody_stands_where_the_world_says(self) -> None:
        busy = {(flight.run.node, flight.run.visit) for flight in self.state.flights}
        for group in self.state.groups:
            for slot in slots(group.members):
                person = self.world.people[slot]
                if (person.node, person.visit) != (group.node, group.visit) and not self.to_be_told(slot, group):
                    # a late attempt moved one whom another attempt had found paused or parked; running again tells
                    assert StepKey(slot, group.node, group.visit) in self.world.steps
                    assert (self.state.on_hold | self.state.parked) >> slot & 1 or (group.node, group.visit) in busy
        for slot in slots(self.state.finished):
            assert isinstance(self.plan.nodes[self.world.people[slot].node], ExitNode | GoalNode)
        for slot in slots(self.state.left):
            assert self.world.people[slot].ended is not None

    def to_be_told(self, slot: int, group: Group) -> bool:
        """Whether the news that this member was moved off that passage is on the way."""
        moves = (signal for signal in self.signals if isinstance(signal, Moved))
        here = (group.node, group.visit)
        return any((move.node, move.visit) == here and move.members >> slot & 1 for move in moves)

    @invariant()
    def the_next_wake_time_is_the_earliest_and_nothing_due_is_left(self) -> None:
        busy = {(flight.run.node, flight.run.visit) for flight in self.state.flights}
        later: list[datetime] = []
        for group in self.state.groups:
            if not group.members & ~self.state.on_hold & ~self.state.parked:
                continue
            if group.due is not None and group.due > self.now:
                later.append(group.due)
            elif group.phase != "hear":
                assert (group.node, group.visit) in busy
        if self.fed and self.done is None:
            assert self.wake == min(later, default=None)

    @invariant()
    def everybody_waits_until_when_the_world_says_now(self) -> None:
        if any(isinstance(signal, Replan) for signal in self.signals):
            return
        aside = self.state.on_hold | self.state.parked if self.fed else 0
        for group in self.state.groups:
            if group.phase == "wait" and self.plan.plans(group.node) and group.due is not None:
                for slot in slots(group.members & ~aside):
                    assert self.to_be_told(slot, group) or group.due == self.world.due(
                        slot, group.node, self.world.people[slot].entered
                    )

    @invariant()
    def nobody_listens_for_what_was_told(self) -> None:
        for group in self.state.groups:
            if group.phase in {"listen", "hear"}:
                told = {slot for slot, node, visit in self.told_matched if (node, visit) == (group.node, group.visit)}
                assert told.isdisjoint(slots(group.members))

    @invariant()
    def nobody_is_where_they_were_moved_from(self) -> None:
        for group in self.state.groups:
            told = {slot for slot, node, visit in self.told_moved if (node, visit) == (group.node, group.visit)}
            assert told.isdisjoint(slots(group.members))

    @invariant()
    def only_members_on_their_way_to_a_wait_have_early_matches(self) -> None:
        for early in self.state.early:
            assert early.members & ~self.state.inside() == 0
            for group in self.state.groups:
                there = (group.node, group.visit) == (early.node, early.visit)
                if there and (early.outcome or group.phase in {"listen", "hear", "matched"}):
                    assert not group.members & early.members

    def teardown(self) -> None:
        if not self.fed:
            return
        self.world.choose = chance_world(self.plan, 0).choose
        self.release_and_retry_by_the_usual_way()
        for _ in range(1000):
            if self.done is not None and not self.signals:
                break
            if self.signals and (self.signals_overtake or not self.results):
                self.signal(1)
            elif self.results:
                self.feed(self.results.pop())
            elif self.open_runs:
                self.feed(self.world.run(next(iter(self.open_runs.values())), self.now))
            elif self.wake is None:
                self.take_on(everyone(SIZE), 1)
                self.match(everyone(SIZE), 1)
                assert self.signals, f"stuck: {self.state}"
            else:
                self.wake_up()
        assert self.done is not None, f"never ends: {self.state}"
        self.everybody_is_in_exactly_one_place()
        self.everybody_stands_where_the_world_says()
        assert self.done == Done(self.state.finished.bit_count(), self.state.left.bit_count())
        assert all(person.ended for person in self.world.people.values())
        assert_paths_are_whole(self.plan, self.world)
        self.the_same_inputs_give_the_same_answers()

    def release_and_retry_by_the_usual_way(self) -> None:
        """Only those whom Postgres knows as paused or parked: who is stuck otherwise stays so and is found."""
        people = self.world.people.items()
        if paused := from_slots(slot for slot, person in people if person.paused):
            self.resume(paused)
        if parked := from_slots(slot for slot, person in people if person.parked):
            self.retry(parked)

    def the_same_inputs_give_the_same_answers(self) -> None:
        state = State()
        for (fed, now), expected in zip(self.fed, self.answers, strict=True):
            state, commands = step(self.plan, state, fed, now)
            assert commands == expected
        assert state == self.state


def assert_paths_are_whole(plan: Plan, world: ModelWorld) -> None:
    """Each member's steps, followed by outcome from the start, lead to where it ended, and are all it took."""
    for slot, person in world.people.items():
        node, visit, at, walked = plan.start, 1, START, 0
        while (recorded := world.steps.get(StepKey(slot, node, visit))) is not None:
            assert recorded.at >= at
            target = plan.move(node, visit, recorded.outcome)
            assert target is not None
            (node, visit), at, walked = target, recorded.at, walked + 1
        assert (node, visit) == (person.node, person.visit)
        assert walked == sum(key.slot == slot for key in world.steps)


TestCohort = Cohort.TestCase
TestCohort.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
