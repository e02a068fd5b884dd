"""Worlds that decide by chance, but the same way each time they are asked."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random

from journeys.simulator import LISTENING, Answer, Enrollment, ModelWorld, leave
from journeys.state import Run
from tests.journeys.random_journeys import LoosePlan

LAST_FREE_VISIT = 3
HOUR = timedelta(hours=1)
CHOSEN = (
    "branch_0",
    "branch_1",
    "branch_2",
    "otherwise",
    "arm_a0",
    "arm_a1",
    "arm_a2",
    "variant_a",
    "variant_b",
    "done",
)
"""Ways out that are chosen; the last that a node has leads forward."""


def chance_world(
    plan: LoosePlan,
    seed: int,
    *,
    failures: Mapping[tuple[int, str], int] | None = None,
    moved: Mapping[int, timedelta] | None = None,
) -> ModelWorld:
    """A world that takes any way out of a branch or split on the first visits.

    It fails as often as `failures` says per (slot, node). What a member waits for by plan is `moved` by so much.
    """
    chances = _Chances(plan, seed, dict(failures or {}), {} if moved is None else moved)
    return ModelWorld(plan, chances.choose, chances.due, chances.look)


class _Chances:
    def __init__(
        self, plan: LoosePlan, seed: int, failures: dict[tuple[int, str], int], moved: Mapping[int, timedelta]
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._failures = failures
        self._moved = moved

    def _chance(self, *of: object) -> float:
        return Random(f"{self._seed} {of}").random()

    def choose(self, slot: int, node: str, visit: int, now: datetime) -> Answer:
        if self._failures.get((slot, node), 0):
            self._failures[slot, node] -= 1
            return None
        if self._plan.rests(node) == "listen" and self._chance(slot, node, visit) < 0.7:
            return LISTENING
        if self._chance(slot, node, visit, now) < 0.2:
            return now + HOUR / 2
        outcomes = [way for way in CHOSEN if self._plan.move(node, visit, way)]
        forward = visit > LAST_FREE_VISIT
        return outcomes[-1] if forward else Random(f"{self._seed} {slot} {node} {visit}").choice(outcomes)

    def due(self, slot: int, node: str, entered: datetime) -> datetime | str:
        by = self._moved.get(slot, timedelta())
        if self._plan.rests(node) == "listen":
            # at once only the way that leads to an end
            return "timed_out" if self._chance(slot, node, entered, by) < 0.2 else entered + HOUR + by
        if self._plan.move(node, 1, "past") and self._chance(slot, node, by) < 0.3:
            return "past"
        return entered + timedelta(hours=Random(f"{self._seed} {slot}").randrange(-1, 24)) + by

    def look(self, slot: int, person: Enrollment, run: Run, now: datetime) -> Answer:
        if self._plan.acts(person.node):
            return "done" if person.matched else LISTENING
        if not self._plan.plans(person.node):
            return leave(slot, person, run, now)
        end = person.entered + 3 * HOUR
        if now >= end:
            return "timed_out"
        satisfied = person.matched and self._chance(slot, person.node, person.visit, now) < 0.5
        way = "matched" if self._plan.move(person.node, person.visit, "matched") else "met_0"
        return way if satisfied else min(now + HOUR, end)
