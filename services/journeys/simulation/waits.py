"""How waits go in a simulation: by the clock of each, by their dates, and until something is so."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from journeys import members as member_sets
from journeys.durations import add, zone_named
from journeys.state import ActivityResult, Run
from journeys.waits import MET, TimeWindowNode, WaitNode, WaitUntilNode
from services.journeys.meeting import conditions_of

if TYPE_CHECKING:
    from services.journeys.simulation.world import World

LOOKED_AGAIN: Final = timedelta(days=1)
"""How often it is looked at whether something has come to be so."""


async def plan(world: "World", run: Run, node: WaitNode | TimeWindowNode, now: datetime) -> ActivityResult:
    """Say until when each waits, and let those pass who need not or cannot."""
    waits: dict[datetime, int] = defaultdict(int)
    outcomes: dict[str, int] = defaultdict(int)
    for zone, those in _by_clock(world, run, node.clock_of):
        if isinstance(node, TimeWindowNode):
            opens = node.opens(now, zone)
            if opens <= now:
                outcomes["inside"] |= those
            else:
                waits[opens] |= those
        elif node.until is None:
            waits[node.due(now, zone)] |= those
        else:
            for value, members in (await world.asking.values(node.until, those, now)).items():
                due = node.due_by(value, now, zone)
                if due is None or due < now:
                    outcomes["past"] |= members
                else:
                    waits[due] |= members
    return ActivityResult(run.id, outcomes=dict(outcomes), waits=tuple(sorted(waits.items())))


async def look(world: "World", run: Run, node: WaitUntilNode, now: datetime) -> ActivityResult:
    """Let those pass for whom something is so, or whose time is out; look at the others again in a day.

    Whoever was told of an event that opens a way goes that way.
    Whoever comes to the node while others wait there looks with them: the time of each counts from its own arrival.
    """
    outcomes: dict[str, int] = defaultdict(int)
    for slot in world.met.keys() & member_sets.slots(run.members):
        outcomes[f"{MET}{world.met.pop(slot)}"] |= 1 << slot
    rest = run.members
    for told in outcomes.values():
        rest &= ~told
    for index, when in conditions_of(node):
        if rest and (held := await world.asking.holding(when, rest, now)):
            outcomes[f"{MET}{index}"] |= held
            rest &= ~held
    waits: dict[datetime, int] = defaultdict(int)
    for end, those in world.ends_of(run, add(now, node.timeout)):
        waiting = those & rest
        if waiting and end <= now:
            outcomes["timed_out"] |= waiting
        elif waiting:
            waits[min(end, now + LOOKED_AGAIN)] |= waiting
    return ActivityResult(run.id, outcomes=dict(outcomes), waits=tuple(sorted(waits.items())))


def _by_clock(world: "World", run: Run, clock: str) -> Sequence[tuple[ZoneInfo, int]]:
    if clock == "person":
        return world.by_zone(run.members)
    return [(zone_named(world.tenant_zone if clock == "tenant" else clock), run.members)]
