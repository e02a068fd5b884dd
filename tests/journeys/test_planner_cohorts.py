"""A cohort under chance goes as its members would alone, and comes to an end."""

from collections.abc import Callable
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from journeys.members import everyone, from_slots
from journeys.simulator import ModelWorld, simulate
from journeys.state import Hold, Input, Leave, Matched, Moved, Release, Replan, Retry, State, TimerFired
from tests.journeys.random_journeys import START, LoosePlan, plans
from tests.journeys.random_worlds import HOUR, chance_world
from tests.journeys.test_planner_properties import SIZE, SLOTS, assert_paths_are_whole

Happening = tuple[int, int, str]
HAPPENINGS = st.lists(
    st.tuples(
        st.integers(0, 60), SLOTS, st.sampled_from(["match", "take on", "leave", "pause", "resume", "retry", "move"])
    ),
    max_size=12,
)


def happen(world: ModelWorld, moved: dict[int, timedelta], slot: int, what: str, now: datetime) -> Callable[[], Input]:
    def event() -> Input:  # noqa: PLR0911 - one for each thing that may happen
        person, members = world.people[slot], from_slots([slot])
        if person.ended is not None:
            return TimerFired()
        match what:
            case "match":
                passage = world.match(slot)
                return Matched(*passage, members) if passage else TimerFired()
            case "take on":
                passed = world.take_on(slot, now)
                return Moved(*passed, members) if passed else TimerFired()
            case "leave":
                person.ended = "goal"
                return Leave(members)
            case "pause":
                person.paused = True
                return Hold(members)
            case "resume":
                person.paused = False
                return Release(members)
            case "move":
                moved[slot] = moved.get(slot, timedelta()) + 3 * HOUR
                return Replan(members)
            case _:
                person.parked = False
                return Retry(members)

    return event


@given(
    plan=plans(),
    seed=st.integers(0, 1000),
    happenings=HAPPENINGS,
    failures=st.dictionaries(st.tuples(SLOTS, st.sampled_from([f"n{i}" for i in range(8)])), st.just(1), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_cohort_of_n_goes_as_n_cohorts_of_one(
    plan: LoosePlan, seed: int, happenings: list[Happening], failures: dict[tuple[int, str], int]
) -> None:
    def walk(members: int) -> tuple[ModelWorld, State]:
        moved: dict[int, timedelta] = {}
        world = chance_world(plan, seed, failures=failures, moved=moved)
        world.enroll(members, START)
        # odd seconds of their own: at the very instant of a timer, who comes first would depend on the others
        times = [START + timedelta(minutes=20 * at, seconds=number) for number, (at, *_) in enumerate(happenings, 1)]
        events = [
            (at, happen(world, moved, slot, what, at))
            for at, (_, slot, what) in zip(times, happenings, strict=True)
            if members >> slot & 1
        ]
        return world, simulate(plan, world, members, START, events=events).state

    together, state = walk(everyone(SIZE))
    finished = left = 0
    for slot in range(SIZE):
        alone, alone_state = walk(from_slots([slot]))
        assert alone.people[slot] == together.people[slot]
        assert alone.steps == {key: value for key, value in together.steps.items() if key.slot == slot}
        finished |= alone_state.finished
        left |= alone_state.left
    assert (finished, left) == (state.finished, state.left)
    assert_paths_are_whole(plan, together)


@given(plan=plans(heard=False), seed=st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_left_alone_everybody_comes_to_an_exit(plan: LoosePlan, seed: int) -> None:
    world = chance_world(plan, seed)
    world.enroll(everyone(SIZE), START)
    simulation = simulate(plan, world, everyone(SIZE), START)
    assert simulation.done
    assert simulation.state.finished == everyone(SIZE)
    assert {person.ended for person in world.people.values()} == {"finished"}
