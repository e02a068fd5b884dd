"""The walk of everybody at once takes the paths that the planner takes with one cohort, whatever happens."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from journeys.members import everyone, from_slots, slots
from journeys.simulator import ModelWorld, simulate
from journeys.state import ActivityResult, Run
from journeys.virtual import Walk
from tests.journeys.random_journeys import START, LoosePlan, plans
from tests.journeys.random_worlds import chance_world
from tests.journeys.test_planner_cohorts import happen
from tests.journeys.test_planner_properties import SIZE, SLOTS

HAPPENINGS = st.lists(
    st.tuples(st.integers(0, 60), SLOTS, st.sampled_from(["match", "match", "match", "leave"])), max_size=12
)


@dataclass
class Behind:
    world: ModelWorld

    async def run(self, run: Run, now: datetime) -> ActivityResult:
        return self.world.run(run, now)

    def came(self, node: str, members: int, now: datetime) -> None: ...

    def went(self, run: Run, outcome: str, members: int, now: datetime) -> None: ...


@given(plan=plans(), seed=st.integers(0, 1000), happenings=HAPPENINGS, late=st.integers(0, everyone(SIZE)))
@settings(max_examples=200)
def test_everybody_goes_as_the_planner_has_them_go(
    plan: LoosePlan, seed: int, happenings: list[tuple[int, int, str]], late: int
) -> None:
    # odd seconds of their own, so that no event comes at the very instant of a timer
    events = sorted(
        (START + timedelta(minutes=20 * at, seconds=number), slot, what)
        for number, (at, slot, what) in enumerate(happenings, start=1)
    )
    once = chance_world(plan, seed)
    once.enroll(everyone(SIZE), START)
    expected = simulate(
        plan, once, everyone(SIZE), START, events=[(at, happen(once, {}, slot, what, at)) for at, slot, what in events]
    ).state

    world = chance_world(plan, seed)
    walk = Walk(plan, Behind(world))

    async def walked() -> None:
        # In two cohorts: who enters with whom makes no difference.
        for members in filter(None, (everyone(SIZE) & ~late, late)):
            world.enroll(members, START)
            await walk.enroll(members, START)
        for at, slot, what in events:
            await walk.advance(at - timedelta(microseconds=1))
            person = world.people[slot]
            if what == "leave" and person.ended is None:
                person.ended = "goal"
                await walk.leave([slot], at)
            elif what == "match" and world.match(slot) is not None:
                assert (place := walk.place_of(slot)) is not None
                assert place.phase in {"listen", "hear"}
                await walk.match([slot], at)
        await walk.advance(START + timedelta(days=4_000))

    asyncio.run(walked())
    assert world.people == once.people
    assert world.steps == once.steps
    assert (walk.finished, walk.left) == (expected.finished, expected.left)
    assert from_slots(slot for members in walk.resting.values() for slot in slots(members)) == expected.inside()
