"""Random journeys take people the same ways three times: with the real steps, in a simulation, and in the model.

The real steps run in Postgres, asked for by the planner as a cohort's workflow asks for them, some of them twice. The
store's `now()` is the virtual clock; what defaults write is set back to it after each.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from core.ids import new_id
from journeys.arms import ARM, SplitNode, chosen, place_of
from journeys.definition import ExitRule, Goal, JourneyDefinition
from journeys.durations import add, zone_named
from journeys.evaluate import Facts, evaluate, match_values, property_values
from journeys.members import everyone
from journeys.nodes import BranchNode, ExitNode, GoalNode, UpdatePersonNode
from journeys.plan import Plan
from journeys.simulator import Answer, Enrollment, ModelWorld, leave, simulate
from journeys.state import Enrolled, Input, Leave, Matched, Run, TimerFired
from journeys.waits import MET, EventWay, TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode
from models import EnrollmentStep, Event
from services.journeys.meeting import conditions_of
from services.journeys.simulation.simulating import STRETCH, Simulated
from tests.factories.marketing import Marketing, walk
from tests.journeys.random_journeys import START, publishable
from tests.services.journeys.simulations import simulated
from tests.services.journeys.virtual_cohorts import Cohort, Happening, virtual_marketing, whole

SIZE = 4
LASTING = timedelta(days=3)
ENTRY = {"cart": "a"}


@dataclass(frozen=True, slots=True)
class Passed:
    """A node on somebody's way, and how and when they left it; or why and when the passage ended there."""

    node: str
    outcome: str | None = None
    at: datetime | None = None
    message: str | None = None


TRAITS = st.fixed_dictionaries(
    {
        "time_zone": st.sampled_from([None, "Asia/Tokyo", "America/New_York"]),
        "locale": st.sampled_from([None, "de", "en"]),
        "attributes": st.sampled_from(
            [{}, {"x": 1}, {"x": 2}, {"x": 1, "renews_on": "2026-03-30"}, {"renews_on": "2026-03-31"}]
        ),
        "consent": st.booleans(),
    }
)


@st.composite
def happenings(draw: st.DrawFn) -> list[Happening]:
    """Events at moments of their own: none comes at the very instant of a timer, or of another."""
    types = st.sampled_from(["order.placed", "order.placed", "order.placed", "order.placed", "signed", "gave_up"])
    some = st.frozensets(st.integers(0, SIZE - 1), min_size=1)
    properties = st.fixed_dictionaries({"cart": st.sampled_from("ab"), "total": st.sampled_from([5, 15])})
    drawn = draw(st.lists(st.tuples(st.integers(0, 100), some, types, properties), max_size=8))
    return sorted(
        (
            Happening(START + timedelta(minutes=20 * moment, seconds=number), who, what, given)
            for number, (moment, who, what, given) in enumerate(drawn, start=1)
        ),
        key=lambda happening: happening.at,
    )


async def really(
    cohort: Cohort, people: Sequence[UUID], events: Sequence[Happening]
) -> tuple[list[list[Passed]], Counter[str]]:
    """Walk the cohort in Postgres; return everybody's way, and the reasons of those who came out."""
    await cohort.set_back(START)
    await cohort.feed(Enrolled(everyone(SIZE)), START)
    for happening in events:
        await cohort.advance(happening.at)
        await cohort.hear(happening, people)
    await cohort.advance(START + LASTING)
    await cohort.set_clock(None)
    marketing = cohort.walking.marketing
    rows = await cohort.walking.rows()
    messages = {each.dedupe_key: each.reason or each.status for each in await marketing.messages()}
    async with marketing.session() as session:
        taken = await session.scalars(
            select(EnrollmentStep).where(
                EnrollmentStep.tenant_id == session.tenant_id,
                EnrollmentStep.enrollment_id.in_([row.id for row in rows]),
            )
        )
        steps = {(each.enrollment_id, each.node, each.visit): each for each in taken}
    paths: list[list[Passed]] = []
    for row in rows:
        path: list[Passed] = []
        node, visit, entered = cohort.plan.start, 1, START
        while (left := steps.pop((row.id, node, visit), None)) is not None:
            assert left.entered_at == entered
            message = messages.get(f"journey:{row.id}:{node}:{visit}")
            path.append(Passed(node, left.outcome, whole(left.left_at), message))
            target = cohort.plan.move(node, visit, left.outcome)
            assert target is not None
            node, visit, entered = *target, left.left_at
        assert (row.node, row.visit, row.node_entered_at) == (node, visit, entered)
        if row.ended_at is not None and not isinstance(cohort.plan.nodes[node], ExitNode | GoalNode):
            path.append(Passed(node, row.reason, whole(row.ended_at)))
        else:
            path.append(Passed(node))
        paths.append(path)
    assert not steps
    return paths, Counter(row.reason or "" for row in rows if row.ended_at is not None)


async def in_a_simulation(
    marketing: Marketing,
    definition: dict[str, Any],
    journey_id: UUID,
    people: Sequence[UUID],
    events: Sequence[Happening],
) -> Simulated:
    """Have the events have happened four weeks before, and simulate."""
    rows = [
        {
            "tenant_id": marketing.tenant_id,
            "id": new_id(),
            "type": happening.type,
            "person_id": people[slot],
            "subject_id": people[slot],
            "properties": happening.properties,
            "occurred_at": happening.at - STRETCH,
            "received_at": happening.at - STRETCH,
        }
        for happening in events
        for slot in sorted(happening.slots)
    ]
    if rows:
        async with marketing.session() as session:
            await session.execute(insert(Event), rows)
    return await simulated(
        marketing, definition, people, begin=START, journey_id=journey_id, lasting=LASTING, entry=ENTRY
    )


@dataclass
class Model:
    """Everybody in memory."""

    definition: JourneyDefinition
    plan: Plan
    journey_id: UUID
    people: Sequence[UUID]
    traits: list[dict[str, Any]]
    tenant_zone: str
    ended: dict[int, datetime] = field(default_factory=dict[int, datetime])  # by an event
    opened: dict[int, int] = field(default_factory=dict[int, int])  # a way, by an event

    def walked(self, events: Sequence[Happening]) -> list[list[Passed]]:
        """Return everybody's way."""
        world = ModelWorld(self.plan, self._choose, self._due, self._look)
        world.enroll(everyone(SIZE), START)
        agenda = [
            (happening.at, lambda happening=happening, slot=slot: self._hear(world, happening, slot))
            for happening in events
            for slot in sorted(happening.slots)
        ]
        simulate(self.plan, world, everyone(SIZE), START, events=agenda, until=START + LASTING)
        paths: list[list[Passed]] = []
        for slot, person in sorted(world.people.items()):
            steps = [
                Passed(key.node, taken.outcome, taken.at) for key, taken in world.steps.items() if key.slot == slot
            ]
            taken_out = person.ended not in {None, "finished"}
            last = Passed(person.node, person.ended, self.ended[slot]) if taken_out else Passed(person.node)
            paths.append([*steps, last])
        return paths

    def _choose(self, slot: int, name: str, _visit: int, now: datetime) -> str:
        traits = self.traits[slot]
        match self.plan.nodes[name]:
            case BranchNode(branches=branches):
                facts = Facts(now=now, person=traits, entry=ENTRY)
                held = (f"branch_{index}" for index, each in enumerate(branches) if evaluate(each.when, facts))
                return next(held, "otherwise")
            case SplitNode(arms=arms):
                return ARM + chosen(arms, place_of(self.journey_id, self.people[slot], name))
            case UpdatePersonNode(set=values):
                for path, value in values.items():
                    group, _, attribute = path.partition(".")
                    of = traits[group] if attribute else traits
                    of[attribute or group] = value
                return "done"
            case _:
                return "done"

    def _due(self, slot: int, name: str, entered: datetime) -> datetime | str:
        node = self.plan.nodes[name]
        if isinstance(node, WaitUntilNode):
            return self._held(slot, node, entered) or add(entered, node.timeout)
        assert isinstance(node, WaitNode | TimeWindowNode)
        own = self.traits[slot]["time_zone"] if node.clock_of == "person" else None
        zone = zone_named(own or self.tenant_zone)
        if isinstance(node, TimeWindowNode):
            opens = node.opens(entered, zone)
            return opens if opens > entered else "inside"
        if node.until is None:
            return node.due(entered, zone)
        due = node.due_by(self.traits[slot]["attributes"].get("renews_on"), entered, zone)
        return due if due is not None and due >= entered else "past"

    def _look(self, slot: int, person: Enrollment, run: Run, now: datetime) -> Answer:
        node = self.plan.nodes[run.node]
        if not isinstance(node, WaitUntilNode):
            return leave(slot, person, run, now)
        if slot in self.opened:
            return f"{MET}{self.opened.pop(slot)}"
        end = add(person.entered, node.timeout)
        return self._held(slot, node, now) or ("timed_out" if end <= now else end)

    def _held(self, slot: int, node: WaitUntilNode, now: datetime) -> str | None:
        facts = Facts(now=now, person=self.traits[slot], entry=ENTRY)
        held = (f"{MET}{index}" for index, when in conditions_of(node) if evaluate(when, facts))
        return next(held, None)

    def _hear(self, world: ModelWorld, happening: Happening, slot: int) -> Input:
        person = world.people[slot]
        goal = self.definition.goal
        if person.ended is None and (goal is not None and self._concerns(goal, happening)):
            person.ended = "goal"
        for rule in self.definition.exit_when:
            if person.ended is None and self._concerns(rule, happening):
                person.ended = f"exit_when: {rule.event}"
        if person.ended is not None:
            self.ended.setdefault(slot, happening.at)
            return Leave(1 << slot)
        node = self.plan.nodes[person.node]
        if isinstance(node, WaitForEventNode) and self._concerns(node, happening):
            passage = world.match(slot)
            assert passage is not None
            return Matched(*passage, 1 << slot)
        if isinstance(node, WaitUntilNode):
            ways = enumerate(node.ways)
            for index in (index for index, way in ways if isinstance(way, EventWay) and self._concerns(way, happening)):
                passage = world.match(slot)
                assert passage is not None
                self.opened[slot] = index
                return Matched(*passage, 1 << slot)
        return TimerFired()

    def _concerns(self, rule: Goal | ExitRule | WaitForEventNode | EventWay, happening: Happening) -> bool:
        if isinstance(rule, Goal) and rule.within is not None and happening.at > add(START, rule.within):
            return False
        wanted = match_values(rule.match, ENTRY)
        facts = Facts(now=happening.at, event={"type": happening.type, "properties": happening.properties})
        return (
            happening.type == rule.event
            and wanted is not None
            and property_values(wanted, happening.properties) == wanted
            and (rule.where is None or evaluate(rule.where, facts))
        )


@pytest.fixture
async def sending(empty_database_url: str) -> AsyncGenerator[Marketing]:
    """A tenant with the template that random journeys send, in a store whose clock can be set."""
    async with virtual_marketing(empty_database_url) as marketing:
        await marketing.template("t", purpose="marketing")
        yield marketing


@given(
    definition=publishable(),
    traits=st.lists(TRAITS, min_size=SIZE, max_size=SIZE),
    events=happenings(),
    tenant_zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    kept=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(
    definition=walk(
        move={"type": "update_person", "set": {"time_zone": "Asia/Tokyo"}, "next": "own"},
        own={"type": "wait", "until_time": "09:00", "next": "ours"},
        ours={"type": "wait", "until_time": "09:00", "zone": "tenant", "next": "done"},
    ),
    traits=[{"time_zone": "America/New_York", "locale": None, "attributes": {}, "consent": True}] * SIZE,
    events=[],
    tenant_zone="Europe/Berlin",
    kept=False,
    seed=0,
)
@example(
    definition=walk(
        date={
            "type": "wait",
            "until": "person.attributes.renews_on",
            "offset": "-P2D",
            "next": "hours",
            "past": "hours",
        },
        hours={"type": "time_window", "from": "09:00", "to": "17:00", "next": "either"},
        either={
            "type": "wait_until",
            "any": [
                {"when": {"field": "person.attributes.x", "op": "=", "value": 2}, "next": "done"},
                {"event": "order.placed", "match": {"event.properties.cart": "entry.cart"}, "next": "done"},
            ],
            "timeout": "PT3H",
            "timed_out": "done",
        },
    ),
    traits=[
        {"time_zone": zone, "locale": None, "attributes": attributes, "consent": True}
        for zone, attributes in (
            (None, {"renews_on": "2026-03-31"}),
            (None, {"x": 2}),
            (None, {"x": 1}),
            ("Asia/Tokyo", {}),
        )
    ],
    events=[
        Happening(START + timedelta(hours=hours), frozenset({slot}), "order.placed", {"cart": cart, "total": 5})
        for hours, slot, cart in ((1, 2, "a"), (21.5, 0, "b"), (22, 0, "a"))
    ],
    tenant_zone="UTC",
    kept=True,
    seed=0,
)
@example(
    definition=walk(
        which={
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.x", "op": "=", "value": 1}, "next": "set"}],
            "otherwise": "move",
        },
        set={"type": "update_person", "set": {"attributes.x": 2}, "next": "move"},
        move={"type": "update_person", "set": {"time_zone": "Asia/Tokyo"}, "next": "own"},
        own={"type": "wait", "until_time": "09:00", "next": "tell"},
        tell={"type": "send", "channel": "email", "template": "t", "next": "back"},
        back={"type": "update_person", "set": {"time_zone": None}, "next": "once_more"},
        once_more={"type": "update_person", "set": {"attributes.x": None}, "next": "ours"},
        ours={"type": "wait", "until_time": "09:00", "next": "done"},
    ),
    traits=[{"time_zone": None, "locale": None, "attributes": {"x": x}, "consent": True} for x in range(SIZE)],
    events=[],
    tenant_zone="Europe/Berlin",
    kept=True,
    seed=0,
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_steps_simulation_and_model_take_the_same_ways(
    sending: Marketing,
    definition: dict[str, Any],
    traits: list[dict[str, Any]],
    events: list[Happening],
    tenant_zone: str,
    kept: bool,
    seed: int,
) -> None:
    people = [await sending.person(**each) for each in traits]
    version = await sending.journey(definition, key=f"j{new_id().hex}")
    # Cohorts of before zones were kept have them asked for.
    plan = Plan(version.definition, tenant_zone if kept else None)
    async with sending.superuser() as connection:
        await connection.execute("UPDATE tenant SET time_zone = $2 WHERE id = $1", sending.tenant_id, tenant_zone)
        # Before anybody really walks, and so changes.
        found = await in_a_simulation(sending, definition, version.journey_id, people, events)
        await sending.enroll(version, people, entry=ENTRY)
        (walking,) = await sending.cohorts(version)
        real, reasons = await really(Cohort(walking, plan, connection, Random(seed)), people, events)

    as_simulated = {
        who: [
            Passed(
                each["node"],
                each.get("outcome"),
                datetime.fromisoformat(each["left_at"]) if "left_at" in each else None,
                each.get("message"),
            )
            for each in steps
        ]
        for who, steps in found.samples
    }
    assert [as_simulated[who] for who in people] == [path[:100] for path in real]
    assert found.report["ended"] == reasons
    assert found.report["inside"] == Counter(row.node for row in await walking.rows() if row.ended_at is None)

    model = Model(version.definition, plan, version.journey_id, people, deepcopy(traits), tenant_zone)
    assert model.walked(events) == [[Passed(each.node, each.outcome, each.at) for each in path] for path in real]
