"""Playing events of the past to a simulation: they let people in, end waits and passages, as `triggers` has it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.events import DEAL_STAGE_ENTERED
from journeys.conditions import events_of
from journeys.definition import ExitRule, Goal
from journeys.durations import add
from journeys.entries import EventEntry
from journeys.evaluate import matches
from journeys.members import from_slots, slots
from journeys.virtual import Place, Walk
from journeys.waits import EventWay, WaitForEventNode, WaitUntilNode
from services.journeys.enrollments import key_of
from services.journeys.meeting import conditions_of
from services.journeys.simulation.asking import Happened
from services.journeys.simulation.clock import Opening
from services.journeys.simulation.entrances import Coming, Entrances
from services.journeys.simulation.events import Played
from services.journeys.simulation.world import World

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class Player:
    """Plays events to a walk, and opens the ways in that the clock opens."""

    world: World
    walk: Walk
    entrances: Entrances

    async def play(self, events: Iterable[Played], openings: Iterable[Opening]) -> None:
        """Play all in its order, and do what falls due between; at the same instant events come first, timers last."""
        moments: dict[datetime, tuple[list[Played], list[Opening]]] = defaultdict(lambda: ([], []))
        for event in events:
            moments[event.at][0].append(event)
        for opening in openings:
            moments[opening.at][1].append(opening)
        for at in sorted(moments):
            batch, opened = moments[at]
            await self.advance(at - _MOMENT)
            # Where deals go, they are when anybody hears of it.
            await self.world.follow(self.world, [event for event in batch if event.type == DEAL_STAGE_ENTERED], at)
            for happening in _rounds(batch):
                await self._end(happening, at)
                await self._settle(at)
                await self._let_in(happening, at)
                await self._settle(at)
            for opening in opened:
                await self._open(opening, at)
                await self._settle(at)

    async def begin(self, at: datetime) -> None:
        """Let everybody in at once."""
        everyone = self.world.passages.everyone
        self.world.tally.entered = everyone.bit_count()
        await self.walk.enroll(everyone, at)
        await self._settle(at)

    async def advance(self, until: datetime) -> None:
        """Do all that falls due up to that moment, itself included, and have heard what that brings about."""
        while (due := self.walk.next_due()) is not None and due <= until:
            await self.walk.advance(due)
            await self._settle(due)

    async def _settle(self, at: datetime) -> None:
        """Let what nodes have brought about end waits and passages."""
        while self.world.happened:
            happened, self.world.happened = self.world.happened, []
            for happening in _rounds(happened):
                await self._end(happening, at)

    async def _end(self, events: Sequence[Played], at: datetime) -> None:
        """End the waits and passages that these events end; of one subject there is one event at most."""
        heard: list[tuple[Happened, Place]] = []
        doing: set[int] = set()
        for event in events:
            doing.update(event.by)
            heard += [
                (Happened(slot, event.type, at, event.properties), place)
                for slot in self.world.passages.of_subject(event.number)
                if (place := self.walk.place_of(slot)) is not None
            ]
        reasons = await self._ending([happened for happened, _ in heard], at)
        apart = doing.union(reasons)
        matched = await self._matching([each for each in heard if each[0].slot not in apart], at)
        for happened, place in heard:
            if happened.slot in reasons:
                self.world.tally.taken_out(place.node, reasons[happened.slot], happened.slot, at)
        if reasons:
            await self.walk.leave(reasons, at)
        if matched:
            await self.walk.match(sorted(matched), at)

    async def _ending(self, heard: Sequence[Happened], at: datetime) -> dict[int, str]:
        """Return whose passages end by a goal or exit condition, and the reason."""
        reasons: dict[int, str] = {}
        for rule in self._rules():
            reason = "goal" if isinstance(rule, Goal) else f"exit_when: {rule.event}"
            held = await self._meant(rule, [each for each in heard if self._in_time(rule, each)], at)
            reasons.update(dict.fromkeys(held, reason))
        return reasons

    async def _matching(self, heard: Sequence[tuple[Happened, Place]], at: datetime) -> set[int]:
        """Return who wait for what they heard."""
        listening: dict[str, list[Happened]] = defaultdict(list)
        for happened, place in heard:
            if place.phase == "listen":
                listening[place.node].append(happened)
        matched: set[int] = set()
        for name, concerned in listening.items():
            node = self.world.definition.nodes[name]
            if isinstance(node, WaitForEventNode):
                matched |= await self._meant(node, concerned, at)
            elif isinstance(node, WaitUntilNode):
                matched |= await self._opened(node, concerned, at)
        return matched

    async def _opened(self, node: WaitUntilNode, heard: Sequence[Happened], at: datetime) -> set[int]:
        """Return for whom what they heard opens a way out of a wait until something is so, and note which."""
        opened: dict[int, int] = {}
        conditions = dict(conditions_of(node))
        for index, way in enumerate(node.ways):
            asked = [happened for happened in heard if happened.slot not in opened]
            if isinstance(way, EventWay):
                held = await self._meant(way, asked, at)
            else:
                when = conditions[index]
                # Only what it counts changes its answer: all else was so on arrival, and a day's look finds the rest.
                counting = from_slots(happened.slot for happened in asked if happened.type in events_of(when))
                held = slots(await self.world.asking.holding(when, counting, at)) if counting else ()
            opened.update(dict.fromkeys(held, index))
        self.world.met.update(opened)
        return set(opened)

    def _rules(self) -> list[Goal | ExitRule]:
        """Return what ends passages; the last that holds names the reason."""
        goal = [self.world.definition.goal] if self.world.definition.goal is not None else []
        return [*reversed(self.world.definition.exit_when), *goal]

    def _in_time(self, rule: Goal | ExitRule, happened: Happened) -> bool:
        if isinstance(rule, ExitRule) or rule.within is None:
            return True
        return happened.at <= add(self.entrances.entered(happened.slot), rule.within)

    async def _meant(
        self, rule: Goal | ExitRule | WaitForEventNode | EventWay, heard: Sequence[Happened], at: datetime
    ) -> set[int]:
        """Return the slots whose event is the rule's: its type, with the values they entered by, and as it asks."""
        concerned = [
            each
            for each in heard
            if each.type == rule.event and matches(rule.match, self.world.passages.entry(each.slot), each.properties)
        ]
        return await self.world.asking.holding_of(rule.where, concerned, at)

    async def _let_in(self, events: Sequence[Played], at: datetime) -> None:
        """Let those in whose event is a way in, by the rules of that way."""
        by_way: dict[int, list[tuple[Played, int]]] = defaultdict(list)
        for event in events:
            for ordinal, slot in event.ways:
                by_way[ordinal].append((event, slot))
        for ordinal, arrived in sorted(by_way.items()):
            entry = self.world.definition.entries[ordinal]
            if not isinstance(entry, EventEntry):
                coming = [Coming(event.number, "", slot) for event, slot in arrived]
                await self.entrances.let_in(entry.again, coming, at)
                continue
            happened = [Happened(slot, event.type, at, event.properties) for event, slot in arrived]
            holding = await self.world.asking.holding_of(entry.where, happened, at)
            self.world.tally.refuse("condition", len(arrived) - len(holding))
            keyed = [(event, slot, key_of(entry, event.properties)) for event, slot in arrived if slot in holding]
            coming = [Coming(event.number, key, slot) for event, slot, key in keyed if key is not None]
            self.world.tally.refuse("no_key", len(keyed) - len(coming))
            await self.entrances.let_in(entry.again, coming, at)

    async def _open(self, opening: Opening, at: datetime) -> None:
        """Let those in whom the clock does."""
        coming = opening.coming
        if opening.member_of is not None and coming:
            asked = from_slots(each.slot for each in coming)
            members = set(slots(await self.world.asking.holding(opening.member_of, asked, at)))
            coming = [each for each in coming if each.slot in members]
        if not opening.noted:
            coming = [each for each in coming if not self.entrances.came(each)]
        await self.entrances.let_in(opening.again, coming, at)


def _rounds(events: Iterable[Played]) -> list[list[Played]]:
    """Split events into rounds that hold at most one event of each subject, in their order."""
    seen: Counter[int] = Counter()
    split: list[list[Played]] = []
    for event in events:
        number = seen[event.number]
        seen[event.number] += 1
        if number == len(split):
            split.append([])
        split[number].append(event)
    return split
