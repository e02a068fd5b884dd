"""The journey that is walked through crashes, who walks it, and where the planner says that each of them ends.

People belong to kinds by their attribute `n`. What becomes of most is settled beforehand: an event they wait for comes
or never comes, and the waits that an event or a request ends are far longer than the test. A `racer`'s event comes
about when its time runs out: either way is right, if it is gone to its end.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final, NamedTuple

from journeys.arms import ARM, Arm
from journeys.definition import JourneyDefinition
from journeys.members import everyone, from_slots, slots
from journeys.plan import Plan
from journeys.simulator import ModelWorld, simulate
from journeys.state import Input, Leave, Matched

KINDS: Final[tuple[str, ...]] = (
    "answers",
    "silent",
    "answers",
    "plain",
    "silent",
    "reaches_goal",
    "racer",
    "answers",
    "plain",
    "leaver",
)
"""Of the people whose `n` ends so."""
WITHOUT_CONSENT: Final = 17
"""Every so-manieth person has not opted in."""
FOREVER: Final = "PT2H"
SENDS: Final = frozenset({"hello", "offer", "thanks"})
ANSWER: Final = "quiz.answered"
GOAL: Final = "shop.visited"


ARMS: Final = (Arm(key="straight", share=30, next="mark"), Arm(key="rested", share=70, next="rest"))
"""Chance parts those who are plain."""


def _kind_in(*kinds: str) -> dict[str, Any]:
    return {"field": "person.attributes.kind", "op": "in", "value": list(kinds)}


def _listen(timeout: str, matched: str, timed_out: str) -> dict[str, Any]:
    match = {"event.properties.round": "entry.round"}
    waiting = {"type": "wait_for_event", "event": ANSWER, "match": match, "timeout": timeout}
    return {**waiting, "matched": matched, "timed_out": timed_out}


DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True},
    "start": "hello",
    "nodes": {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "pause"},
        "pause": {"type": "wait", "for": "PT2S", "next": "kind"},
        "kind": {
            "type": "branch",
            "branches": [
                {"when": _kind_in("answers"), "next": "offer"},
                {"when": _kind_in("silent"), "next": "ask"},
                {"when": _kind_in("racer"), "next": "race"},
                {
                    "when": _kind_in("reaches_goal", "leaver"),
                    "next": "stay",
                },
            ],
            "otherwise": "part",
        },
        "part": {"type": "split", "arms": [arm.model_dump() for arm in ARMS]},
        "rest": {"type": "wait", "for": "PT1S", "next": "mark"},
        "offer": {"type": "send", "channel": "email", "template": "offer", "next": "answer"},
        "answer": _listen(FOREVER, "thanks", "lost"),
        "ask": _listen("PT3S", "lost", "mark"),
        "race": _listen("PT2S", "thanks", "mark"),
        "stay": {"type": "wait", "for": FOREVER, "next": "lost"},
        "thanks": {"type": "send", "channel": "email", "template": "thanks", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.walked": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
        "lost": {"type": "exit", "reason": "lost"},
    },
    "goal": {"event": GOAL},
}


PLAN: Final = Plan(JourneyDefinition.model_validate(DEFINITION))


def kind_of(n: int) -> str:
    """What kind of person has this `n`."""
    return KINDS[n % len(KINDS)]


class Taken(NamedTuple):
    """A step."""

    node: str
    visit: int
    outcome: str


Path = tuple[Taken, ...]


@dataclass(frozen=True)
class Expected:
    """How a passage ends: at a node, or, where it is ended from outside, anywhere on the way there."""

    node: str
    status: str
    reason: str
    path: Path
    anywhere: bool

    def allows(self, node: str, status: str, reason: str, path: Path) -> bool:
        """Whether a passage that ended so is right."""
        if (status, reason) != (self.status, self.reason):
            return False
        if self.anywhere:
            return node in {self.node, *(step.node for step in self.path)} and path == self.path[: len(path)]
        return node == self.node and path == self.path


def path_of(node: str, steps: Collection[Taken]) -> Path | None:
    """The steps in the order they were taken, of one who is at `node`; None where they are no way there."""
    left = {(step.node, step.visit): step for step in steps}
    at: tuple[str, int] = (PLAN.start, 1)
    path: list[Taken] = []
    while (step := left.pop(at, None)) is not None:
        path.append(step)
        target = PLAN.move(*step)
        if target is None:
            return None
        at = target
    return tuple(path) if at[0] == node and not left else None


def expected() -> Mapping[str, list[Expected]]:
    """How passages may end, by kind of person, as the planner has it on its virtual clock."""
    kinds: list[str] = sorted(set(KINDS))
    found: dict[str, list[Expected]] = {kind: [] for kind in kinds}
    for racers_in_time, arm in product((True, False), ARMS):
        answering = {"answers", "racer"} if racers_in_time else {"answers"}
        for slot, person in _simulated(kinds, answering, arm).items():
            if person not in found[kinds[slot]]:
                found[kinds[slot]].append(person)
    return found


def _simulated(kinds: list[str], answering: set[str], arm: Arm) -> dict[int, Expected]:
    branches = {"answers": "branch_0", "silent": "branch_1", "racer": "branch_2", "reaches_goal": "branch_3"}
    branches["leaver"] = "branch_3"

    def choose(slot: int, node: str, _visit: int, _now: datetime) -> str:
        if node == "part":
            return ARM + arm.key
        return branches.get(kinds[slot], "otherwise") if node == "kind" else "done"

    def due(slot: int, node: str, entered: datetime) -> datetime:
        raise AssertionError(f"no wait here is by the person's clock: {slot}, {node}, {entered}")

    world = ModelWorld(PLAN, choose, due)

    def match(kind: str) -> Callable[[], Input]:
        def event() -> Input:
            slot = kinds.index(kind)
            passage = world.match(slot)
            assert passage is not None
            return Matched(*passage, from_slots([slot]))

        return event

    def leave() -> Input:
        leaving = from_slots([kinds.index("leaver"), kinds.index("reaches_goal")])
        for slot in slots(leaving):
            world.people[slot].ended = "outside"
        return Leave(leaving)

    start = datetime(2026, 1, 1, tzinfo=UTC)
    world.enroll(everyone(len(kinds)), start)
    happenings = [(start + timedelta(seconds=3), match(kind)) for kind in sorted(answering)]
    happenings.append((start + timedelta(minutes=1), leave))
    assert simulate(PLAN, world, everyone(len(kinds)), start, events=happenings).done
    outside = {"reaches_goal": ("completed", "goal"), "leaver": ("exited", "left")}
    ends: dict[int, Expected] = {}
    for slot, person in world.people.items():
        steps = [Taken(key.node, key.visit, step.outcome) for key, step in world.steps.items() if key.slot == slot]
        path = path_of(person.node, steps)
        assert path is not None
        if kinds[slot] in outside:
            ends[slot] = Expected(person.node, *outside[kinds[slot]], path, anywhere=True)
        else:
            reason = DEFINITION["nodes"][person.node]["reason"]
            ends[slot] = Expected(person.node, "completed", reason, path, anywhere=False)
    return ends
