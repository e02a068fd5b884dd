"""What stands behind the planner in a simulation: it answers what the nodes' activities would, and changes nothing.

What a type of node answers is one function, in `ANSWERS` or given by the domain whose node it is.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from core.database import TenantSession
from journeys.arms import SplitNode
from journeys.command_nodes import WebhookNode
from journeys.definition import JourneyDefinition
from journeys.durations import zone_or_utc
from journeys.keeping_nodes import AddToSegmentNode, RemoveFromSegmentNode
from journeys.nodes import BranchNode, ExitNode, GoalNode, UpdatePersonNode, when_skipped
from journeys.pacing import RateLimitNode
from journeys.state import ActivityResult, Run
from journeys.waits import TimeWindowNode, WaitNode, WaitUntilNode
from services.journeys.simulation import drawing, waits
from services.journeys.simulation.asking import Asking
from services.journeys.simulation.changes import SEGMENT
from services.journeys.simulation.events import Played
from services.journeys.simulation.failing import Failing
from services.journeys.simulation.pace import Pace
from services.journeys.simulation.passages import Passages
from services.journeys.simulation.tally import Tally


@dataclass(slots=True)
class World:
    """The people of a simulation, and what is counted of them."""

    session: TenantSession
    journey_id: UUID
    definition: JourneyDefinition
    passages: Passages
    asking: Asking
    zones: Mapping[str, int]
    """The passages by the name of their zone."""
    tenant_zone: str
    tally: Tally
    answers: "Answers"
    follow: "Follow"
    failing: Failing
    moved_zones: dict[str, int] = field(default_factory=dict[str, int])
    """Who had their zone set, by its name."""
    ends: dict[tuple[str, int], dict[datetime, int]] = field(default_factory=dict[tuple[str, int], dict[datetime, int]])
    """By node and visit that wait until something is so: who waits there until when at most."""
    arms: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """By the node that splits and the outcome: who goes that way."""
    met: dict[int, int] = field(default_factory=dict[int, int])
    """Who was just told of an event while they waited until something is so: which way that opens."""
    happened: list[Played] = field(default_factory=list[Played])
    """What nodes have brought about and nobody has heard yet."""
    paces: dict[str, Pace] = field(default_factory=dict[str, Pace])
    """By the node that limits."""

    async def run(self, run: Run, now: datetime) -> ActivityResult:
        """Answer what the activity of this run would."""
        node = self.definition.nodes[run.node]
        match run.kind:
            case "plan_wait":
                answer = PLANNED.get(type(node), _usual)
            case "leave_wait":
                return ActivityResult(run.id, outcomes={"elapsed": run.members})
            case "leave_wait_for_event":
                if isinstance(node, WaitUntilNode):
                    return await waits.look(self, run, node, now)
                return ActivityResult(run.id, outcomes={"timed_out" if run.timed_out else "matched": run.members})
            case "act":
                answer = self.answers.get(type(node), _usual)
        return await answer(self, run, node, now)

    def came(self, node: str, members: int, now: datetime) -> None:
        """Count who came to a node, and whose passage that ends."""
        self.tally.came(node, members, now)
        at = self.definition.nodes[node]
        if isinstance(at, ExitNode | GoalNode) and self.tally.open:
            self.tally.ended[at.reason if isinstance(at, ExitNode) else at.name] += members.bit_count()

    def went(self, run: Run, outcome: str, members: int, now: datetime) -> None:
        """Count who left a node."""
        self.tally.went(run, outcome, members, now)

    def ends_of(self, run: Run, end: datetime) -> list[tuple[datetime, int]]:
        """Return when those of a run are to wait no longer, who came earlier by what was said then."""
        known = self.ends.setdefault((run.node, run.visit), {})
        new = run.members
        for those in known.values():
            new &= ~those
        if new:
            known[end] = known.get(end, 0) | new
        return [(at, those & run.members) for at, those in known.items() if those & run.members]

    def by_zone(self, members: int) -> list[tuple[ZoneInfo, int]]:
        """Split members by whose clock they go by."""
        split: list[tuple[ZoneInfo, int]] = []
        for name, those in self.moved_zones.items():
            if concerned := those & members:
                split.append((zone_or_utc(name), concerned))
                members &= ~concerned
        split += [
            (zone_or_utc(name), concerned) for name, those in self.zones.items() if (concerned := those & members)
        ]
        return split


async def _usual(_world: World, run: Run, node: Any, _now: datetime) -> ActivityResult:  # noqa: ANN401 - any node
    """What acts outside of the journey is taken to succeed."""
    return ActivityResult(run.id, outcomes={when_skipped(node) or "done": run.members})


async def _branch(world: World, run: Run, node: BranchNode, now: datetime) -> ActivityResult:
    outcomes: dict[str, int] = {}
    rest = run.members
    for index, branch in enumerate(node.branches):
        if rest and (held := await world.asking.holding(branch.when, rest, now)):
            outcomes[f"branch_{index}"] = held
            rest &= ~held
    if rest:
        outcomes["otherwise"] = rest
    return ActivityResult(run.id, outcomes=outcomes)


async def _update_person(world: World, run: Run, node: UpdatePersonNode, _now: datetime) -> ActivityResult:
    everywhere = world.passages.with_siblings(run.members)
    world.asking.changes.set(everywhere, node.set)
    if "time_zone" in node.set:
        for name in world.moved_zones:
            world.moved_zones[name] &= ~everywhere
        zone = str(node.set["time_zone"] or world.tenant_zone)
        world.moved_zones[zone] = world.moved_zones.get(zone, 0) | everywhere
    return ActivityResult(run.id, outcomes={"done": run.members})


async def _add_to_segment(world: World, run: Run, node: AddToSegmentNode, _now: datetime) -> ActivityResult:
    world.asking.changes.set(world.passages.with_siblings(run.members), {SEGMENT + node.segment: True})
    return ActivityResult(run.id, outcomes={"done": run.members})


async def _remove_from_segment(world: World, run: Run, node: RemoveFromSegmentNode, _now: datetime) -> ActivityResult:
    world.asking.changes.set(world.passages.with_siblings(run.members), {SEGMENT + node.segment: False})
    return ActivityResult(run.id, outcomes={"done": run.members})


async def _rate_limit(world: World, run: Run, node: RateLimitNode, now: datetime) -> ActivityResult:
    if run.node not in world.paces:
        world.paces[run.node] = Pace(node.rate)
    going, later = world.paces[run.node].take(run.members, now)
    return ActivityResult(run.id, outcomes={"done": going} if going else {}, waits=tuple(sorted(later.items())))


async def _webhook(world: World, run: Run, node: WebhookNode, _now: datetime) -> ActivityResult:
    failed = 0 if node.failed is None else await world.failing.among(run.node, run.members)
    outcomes = {"done": run.members & ~failed, "failed": failed}
    return ActivityResult(run.id, outcomes={outcome: those for outcome, those in outcomes.items() if those})


async def _split(world: World, run: Run, node: SplitNode, _now: datetime) -> ActivityResult:
    if run.node not in world.arms:
        subject = world.definition.subject
        world.arms[run.node] = await drawing.arms(world.session, world.journey_id, run.node, node, subject)
    outcomes = {arm: those & run.members for arm, those in world.arms[run.node].items() if those & run.members}
    return ActivityResult(run.id, outcomes=outcomes)


Answer = Callable[[World, Run, Any, datetime], Awaitable[ActivityResult]]
Answers = Mapping[type[Any], Answer]
"""What nodes that act answer, by their type; one that is not named here is taken to have done what it does."""
Follow = Callable[[World, Sequence[Played], datetime], Awaitable[None]]
"""Takes deals along to where these events say that they stand now."""
ANSWERS: Final[Answers] = MappingProxyType(
    {
        BranchNode: _branch,
        SplitNode: _split,
        RateLimitNode: _rate_limit,
        WebhookNode: _webhook,
        UpdatePersonNode: _update_person,
        AddToSegmentNode: _add_to_segment,
        RemoveFromSegmentNode: _remove_from_segment,
    }
)


@dataclass(frozen=True, slots=True)
class Domains:
    """What the domains give to a simulation."""

    answers: Answers
    """What their own nodes answer."""
    follow: Follow


PLANNED: Final[Answers] = MappingProxyType(
    {WaitNode: waits.plan, TimeWindowNode: waits.plan, WaitUntilNode: waits.look}
)
"""What nodes answer that plan a wait for each member."""
