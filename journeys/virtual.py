"""Any number of passages through a journey on a virtual clock, walked by the planner itself.

`journeys.simulator` drives one cohort by one state. Here everybody at rest is kept by place (node, visit, phase, due),
and the planner is handed the state of those alone to whom something happens: members of a cohort do not depend on one
another, so what becomes of some is the same with the others left out. A hundred thousand people cost as much as their
places, and who meets at a place goes on together.

What stands behind the planner may have to ask a database, so it is awaited; nothing here does I/O or reads a clock.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from journeys.members import slots
from journeys.plan import Plan
from journeys.planner import step
from journeys.state import ActivityResult, Enrolled, Group, Input, Leave, Matched, Phase, Run, State, TimerFired

MAX_RUNS: Final = 100_000
"""Runs one walk may ask for: a journey of loops, over a year of events, ends somewhere."""


class EndlessWalkError(Exception):
    """The walk asked for more than `MAX_RUNS` runs."""


class Place(NamedTuple):
    """Where members rest, and until when."""

    node: str
    visit: int
    phase: Phase
    due: datetime | None


class Behind(Protocol):
    """What stands behind the planner: it executes runs, and sees who goes where."""

    async def run(self, run: Run, now: datetime) -> ActivityResult:
        """Do what the activity of this run would; nobody is held or gone."""
        ...

    def came(self, node: str, members: int, now: datetime) -> None:
        """Members came to a node: they entered, or left another."""
        ...

    def went(self, run: Run, outcome: str, members: int, now: datetime) -> None:
        """Members left the node of a run by an outcome."""
        ...


class Walk:
    """Who is where, and the planner's answers to what happens to them."""

    def __init__(self, plan: Plan, behind: Behind) -> None:
        """Nobody is inside yet."""
        self._plan = plan
        self._behind = behind
        self._resting: dict[Place, int] = {}
        self._dues: list[tuple[datetime, Place]] = []
        self._where: dict[int, Place] | None = None
        self._runs = 0
        self.finished = 0
        """Who came to an exit."""
        self.left = 0
        """Who left on the way."""
        self.parked = 0
        """Who rests because the node failed."""

    @property
    def resting(self) -> dict[Place, int]:
        """Everybody inside, by place."""
        return dict(self._resting)

    def next_due(self) -> datetime | None:
        """When somebody is next to go on."""
        while self._dues and self._dues[0][1] not in self._resting:
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def place_of(self, slot: int) -> Place | None:
        """Where somebody is; None who is not inside."""
        if self._where is None:  # not kept before anybody asks: most journeys hear no event
            self._where = {each: place for place, members in self._resting.items() for each in slots(members)}
        return self._where.get(slot)

    async def enroll(self, members: int, now: datetime) -> None:
        """Let members in, none of whom was in before."""
        self._behind.came(self._plan.start, members, now)
        await self._feed([], [Enrolled(members)], now)

    async def match(self, members: Iterable[int], now: datetime) -> None:
        """An event came that these members wait for where they are."""
        taken = self._take(members)
        told: dict[tuple[str, int], int] = {}
        for group in taken:
            told[group.node, group.visit] = told.get((group.node, group.visit), 0) | group.members
        await self._feed(taken, [Matched(node, visit, those) for (node, visit), those in sorted(told.items())], now)

    async def leave(self, members: Iterable[int], now: datetime) -> None:
        """These members are taken out, wherever they are."""
        taken = self._take(members)
        gone = 0
        for group in taken:
            gone |= group.members
        await self._feed(taken, [Leave(gone)], now)

    async def advance(self, until: datetime) -> None:
        """Do all that falls due up to that moment, itself included, in the order of time."""
        while (due := self.next_due()) is not None and due <= until:
            falling: list[Group] = []
            while self._dues and self._dues[0][0] == due:
                place = heapq.heappop(self._dues)[1]
                members = self._resting.pop(place, 0)
                if members:
                    falling.append(Group(*place, members))
                    self._moved(members, None)
            await self._feed(falling, [TimerFired()], due)

    def _take(self, members: Iterable[int]) -> list[Group]:
        by_place: dict[Place, int] = {}
        for slot in members:
            place = self.place_of(slot)
            if place is not None:
                by_place[place] = by_place.get(place, 0) | 1 << slot
        for place, those in by_place.items():
            kept = self._resting[place] & ~those
            if kept:
                self._resting[place] = kept
            else:
                del self._resting[place]
            self._moved(those, None)
        return [Group(*place, those) for place, those in by_place.items()]

    async def _feed(self, groups: Iterable[Group], given: Iterable[Input], now: datetime) -> None:
        """Hand these members to the planner, answer what it asks for, and let them rest where they then are."""
        present = tuple(groups)
        inside = 0
        for group in present:
            inside |= group.members
        state = State(started=True, groups=present, parked=self.parked & inside)
        self.parked &= ~inside
        pending = deque(given)
        while pending:
            state, commands = step(self._plan, state, pending.popleft(), now)
            for command in commands:
                if isinstance(command, Run):
                    pending.append(await self._run(command, now))
        self.finished |= state.finished
        self.left |= state.left
        self.parked |= state.parked
        for group in state.groups:
            place = Place(group.node, group.visit, group.phase, group.due)
            known = self._resting.get(place, 0)
            self._resting[place] = known | group.members
            if not known and place.due is not None and group.members & ~state.parked:
                heapq.heappush(self._dues, (place.due, place))
            self._moved(group.members, place)

    async def _run(self, run: Run, now: datetime) -> ActivityResult:
        self._runs += 1
        if self._runs > MAX_RUNS:
            raise EndlessWalkError
        result = await self._behind.run(run, now)
        for outcome, members in sorted(result.outcomes.items()):
            target = self._plan.move(run.node, run.visit, outcome)
            if target is not None and members:
                self._behind.went(run, outcome, members, now)
                self._behind.came(target[0], members, now)
        return result

    def _moved(self, members: int, place: Place | None) -> None:
        if self._where is None:
            return
        if place is None:
            for slot in slots(members):
                del self._where[slot]
        else:
            self._where.update(dict.fromkeys(slots(members), place))
