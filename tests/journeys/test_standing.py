"""A state made from where members stand goes on as the workflow that brought them there would have."""

from collections import defaultdict
from datetime import datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from journeys.members import everyone, from_slots, slots
from journeys.nodes import WaitForEventNode
from journeys.plan import Plan
from journeys.planner import step
from journeys.simulator import ModelWorld, simulate
from journeys.standing import MAX_DUES, Standing, state_of
from journeys.state import Done, Input, Matched, Release, Retry, Run, State, TimerFired, WakeAt
from tests.journeys.random_journeys import START, LoosePlan, plans
from tests.journeys.random_worlds import CHOSEN
from tests.journeys.small_journeys import make_plan, send, wait

SIZE = 6
SLOTS = st.integers(0, SIZE - 1)
STATE = TypeAdapter(State)


def steady_world(plan: Plan, seed: int, failures: dict[tuple[int, str], int]) -> ModelWorld:
    """A world whose answers do not depend on the time at which they are asked for."""
    left = dict(failures)

    def choose(slot: int, node: str, visit: int, _now: datetime) -> str | None:
        if left.get((slot, node), 0):
            left[slot, node] -= 1
            return None
        outcomes = [way for way in CHOSEN if plan.move(node, visit, way)]
        return outcomes[-1] if visit > 3 else Random(f"{seed} {slot} {node} {visit}").choice(outcomes)

    def due(slot: int, _node: str, entered: datetime) -> datetime:
        return entered + timedelta(hours=Random(f"{seed} {slot}").randrange(-1, 24))

    return ModelWorld(plan, choose, due)


def standing(world: ModelWorld) -> list[Standing]:
    """Return where those inside stand, as the store would say it."""
    places: dict[tuple[str, int, datetime, bool], list[int]] = defaultdict(list)
    for slot, person in world.people.items():
        if person.ended is None:
            places[person.node, person.visit, person.entered, person.matched].append(slot)
    return [
        Standing(
            node,
            visit,
            entered,
            from_slots(numbers),
            matched=matched,
            listens=isinstance(world.plan.nodes[node], WaitForEventNode),
        )
        for (node, visit, entered, matched), numbers in places.items()
    ]


def taken_up(world: ModelWorld) -> State:
    """Return the state of a workflow that begins with where the members stand."""
    people = world.people.items()
    return state_of(
        world.plan,
        SIZE,
        standing(world),
        on_hold=from_slots(slot for slot, person in people if person.paused),
        parked=from_slots(slot for slot, person in people if person.parked),
    )


def free(world: ModelWorld) -> list[Input]:
    """Let go who is paused or parked, and return what the planner is told of it."""
    freed = from_slots(slot for slot, person in world.people.items() if person.paused or person.parked)
    for person in world.people.values():
        person.paused = person.parked = False
    return [TimerFired(), Release(freed), Retry(freed)]


def go_on(plan: Plan, world: ModelWorld, state: State, now: datetime) -> None:
    """Drive a state to its end, with those let go who are paused or parked."""
    pending = free(world)
    wake: datetime | None = None
    for _ in range(1000):
        if not pending and wake is None:
            pending = free(world)
        elif not pending:
            now = max(now, wake or now)
            pending.append(TimerFired())
        state, commands = step(plan, state, pending.pop(0), now)
        for command in commands:
            match command:
                case Run():
                    pending.append(world.run(command, now))
                case WakeAt(due):
                    wake = due
                case Done():
                    return
    raise AssertionError(f"never ends: {state}")


@given(
    plan=plans(heard=False, looks=False),
    seed=st.integers(0, 1000),
    minutes=st.integers(0, 60 * 30),
    matched=st.dictionaries(SLOTS, st.integers(0, 60 * 30), max_size=4),
    failures=st.dictionaries(st.tuples(SLOTS, st.sampled_from([f"n{i}" for i in range(8)])), st.just(1), max_size=3),
    paused=st.sets(SLOTS, max_size=2),
    told=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_it_goes_on_as_the_first_would_have(
    plan: LoosePlan,
    seed: int,
    minutes: int,
    matched: dict[int, int],
    failures: dict[tuple[int, str], int],
    paused: set[int],
    told: bool,
) -> None:
    plan.planned = frozenset()  # looking again happens at other moments, and by those chance decides

    def until(world: ModelWorld) -> State:
        def match(slot: int) -> Input:
            passage = world.match(slot)
            # A signal that is owed and was not delivered: the mark is in the store all the same.
            return Matched(*passage, from_slots([slot])) if passage and told else TimerFired()

        world.enroll(everyone(SIZE), START)
        for slot in paused:
            world.people[slot].paused = True
        events = [
            (START + timedelta(minutes=at, seconds=slot + 1), lambda slot=slot: match(slot))
            for slot, at in matched.items()
        ]
        return simulate(plan, world, everyone(SIZE), START, events=events, until=now).state

    now = START + timedelta(minutes=minutes)
    first, second = (steady_world(plan, seed, failures) for _ in range(2))
    state = until(first)
    until(second)
    made = STATE.validate_json(STATE.dump_json(taken_up(second)))
    assert made.inside() == from_slots(slot for slot, person in second.people.items() if person.ended is None)
    if not told:  # then the first is told late
        for slot, person in first.people.items():
            if person.matched and person.ended is None:
                state, _ = step(plan, state, Matched(person.node, person.visit, from_slots([slot])), now)
                while runs := state.runs():
                    state, _ = step(plan, state, first.run(runs[0], now), now)
    if made.inside():
        go_on(plan, first, state, now)
        go_on(plan, second, made, now)
    assert second.people == first.people
    assert second.steps == first.steps


def test_waits_of_too_many_moments_are_bundled_and_none_ends_too_early() -> None:
    plan = make_plan({"nap": wait(**{"for": "PT1H"})}, start="nap")
    size = 3 * MAX_DUES
    here = [Standing("nap", 1, START + timedelta(seconds=7 * slot), from_slots([slot])) for slot in range(size)]
    state = state_of(plan, size, here, on_hold=0, parked=0)
    assert len(state.groups) <= MAX_DUES
    assert state.inside() == everyone(size)
    for group in state.groups:
        assert group.due is not None
        late = [group.due - START - timedelta(hours=1, seconds=7 * slot) for slot in slots(group.members)]
        assert min(late) >= timedelta(0)
        assert max(late) < timedelta(minutes=1)


def test_who_is_not_named_has_left_and_who_is_at_an_exit_has_finished() -> None:
    plan = make_plan({"nap": wait(**{"for": "PT1H"})}, start="nap")
    here = [Standing("nap", 4, START, 0b0001), Standing("end", 1, START, 0b0100)]
    state = state_of(plan, 4, here, on_hold=0b1111, parked=0b1000)
    assert (state.left, state.finished, state.on_hold, state.parked) == (0b1010, 0b0100, 0b0001, 0)
    assert [(group.node, group.visit, group.phase) for group in state.groups] == [("nap", 4, "wait")]


def test_an_action_whose_end_is_awaited_is_not_begun_again_and_one_put_off_waits() -> None:
    plan = make_plan({"tell": send(), "nap": wait(**{"for": "PT1H"})}, start="tell")
    later = START + timedelta(minutes=5)
    here = [
        Standing("tell", 1, START, 0b0001, listens=True),
        Standing("tell", 1, START, 0b0010, listens=True, matched=True),
        Standing("tell", 1, START, 0b0100, again=later),
        Standing("nap", 1, START, 0b1000, again=later),
    ]
    state = state_of(plan, 4, here, on_hold=0, parked=0)
    assert {group.members: (group.phase, group.due) for group in state.groups} == {
        0b0001: ("hear", None),
        0b0010: ("matched", None),
        0b0100: ("act", later),
        0b1000: ("wait", START + timedelta(hours=1)),
    }
