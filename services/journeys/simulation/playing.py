"""Playing events of the past to a simulation: they let people in, end waits and passages, as `triggers` has it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from contracts.events import SEGMENT_ENTERED, SEGMENT_LEFT
from core.database import TenantSession
from core.errors import InvalidError
from journeys.conditions import events_of
from journeys.definition import ExitRule, Goal, JourneyDefinition
from journeys.durations import add
from journeys.entries import EventEntry, SegmentEntry
from journeys.evaluate import matches
from journeys.members import from_slots, slots
from journeys.virtual import Place, Walk
from journeys.waits import EventWay, WaitForEventNode, WaitUntilNode
from services.journeys.enrollments import key_of
from services.journeys.meeting import conditions_of
from services.journeys.simulation.asking import Asking, Happened, Window
from services.journeys.simulation.clock import Opening
from services.journeys.simulation.entrances import Coming, Entrances
from services.journeys.simulation.passages import Passages, Slots
from services.journeys.simulation.tally import Tally

MAX_EVENTS: Final = 500_000
MAX_MOMENTS: Final = 5_000
"""Events at more moments than this are put together, at the end of the shortest of `GRAINS` that suffices."""
GRAINS: Final = (1, 60, 300, 900, 3600)
_MOMENT: Final = timedelta(microseconds=1)

_READ: Final = text("""
    SELECT p.number, e.type, e.occurred_at, e.properties
    FROM event e JOIN simulated_person p ON p.person_id = e.person_id
    WHERE e.tenant_id = :tenant AND e.type = ANY(:types) AND e.live AND e.subject_type = 'person'
      AND e.occurred_at >= :since AND e.occurred_at < :until
    ORDER BY e.occurred_at, e.position
    LIMIT :most
""").bindparams(bindparam("types", type_=ARRAY(Text)))


@dataclass(slots=True)
class Played:
    """An event as it is played."""

    number: int
    """Of the person."""
    type: str
    at: datetime
    properties: dict[str, Any]
    ways: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """The ways in that it may be, each with the slot kept for it."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """The events of a simulation, in their order."""

    events: Sequence[Played]
    grain: int
    """Seconds at whose end events are put together; 0 where they are played exactly when they happened."""


def heard(definition: JourneyDefinition, *, entering: bool) -> set[str]:
    """Return the types of events that a journey of people listens to."""
    types: set[str] = set()
    for node in definition.nodes.values():
        if isinstance(node, WaitForEventNode):
            types.add(node.event)
        elif isinstance(node, WaitUntilNode):
            types |= {way.event for way in node.ways if isinstance(way, EventWay)}
            types |= {counted for _, when in conditions_of(node) for counted in events_of(when)}
    types |= {rule.event for rule in definition.exit_when}
    if definition.goal is not None:
        types.add(definition.goal.event)
    if entering:
        types |= {type_of for entry in definition.entries if (type_of := _type_of(entry)) is not None}
    return types


def _type_of(entry: object) -> str | None:
    match entry:
        case EventEntry():
            return entry.event
        case SegmentEntry():
            return SEGMENT_ENTERED if entry.on == "entered" else SEGMENT_LEFT
        case _:
            return None


async def read(session: TenantSession, types: set[str], window: Window, until: datetime) -> list[Played]:
    """Return what of these types happened to the audience in the window, moved on, and repeated as often as it fits.

    Raises:
        InvalidError: it is more than a simulation plays.
    """
    shifts = window.shifts(until)
    if not types or not shifts:
        return []
    asked = {
        "tenant": session.tenant_id,
        "types": sorted(types),
        "since": window.since,
        "until": window.end,
        "most": MAX_EVENTS + 1,
    }
    rows = (await session.execute(_READ, asked)).all()
    if len(rows) * len(shifts) > MAX_EVENTS:
        raise InvalidError.of("events", f"are more than the {MAX_EVENTS:,} that a simulation plays")
    return [
        Played(row.number, row.type, at, row.properties)
        for shift in shifts
        for row in rows
        if (at := (row.occurred_at + shift).astimezone(UTC)) <= until
    ]


def timed(events: Sequence[Played]) -> Playlist:
    """Put events together where they happened at too many moments."""
    grain = 0
    for grain in (0, *GRAINS):
        if len({_rounded(event.at, grain) for event in events}) <= MAX_MOMENTS:
            break
    for event in events:
        event.at = _rounded(event.at, grain)
    return Playlist(events, grain)


def _rounded(at: datetime, grain: int) -> datetime:
    if not grain:
        return at
    return datetime.fromtimestamp(-(-at.timestamp() // grain) * grain, UTC)


def keep(definition: JourneyDefinition, events: Iterable[Played], slots: Slots) -> None:
    """Keep a slot for each way in that an event may be.

    Raises:
        InvalidError: they are more than a simulation takes.
    """
    ways = [(ordinal, entry, _type_of(entry)) for ordinal, entry in enumerate(definition.entries)]
    for event in events:
        for ordinal, entry, type_of in ways:
            if type_of != event.type:
                continue
            if isinstance(entry, SegmentEntry) and event.properties.get("segment") != entry.segment:
                continue
            event.ways.append((ordinal, slots.keep(event.number, event.properties)))


@dataclass(slots=True)
class Player:
    """Plays events to a walk, and opens the ways in that the clock opens."""

    definition: JourneyDefinition
    walk: Walk
    passages: Passages
    asking: Asking
    tally: Tally
    entrances: Entrances
    met: dict[int, int]
    """Which way is opened for whom by what they hear, as the world looks at it."""

    async def play(self, events: Iterable[Played], openings: Iterable[Opening]) -> None:
        """Play all in its order, and do what falls due between; at the same instant events come first, timers last."""
        moments: dict[datetime, tuple[list[Played], list[Opening]]] = defaultdict(lambda: ([], []))
        for event in events:
            moments[event.at][0].append(event)
        for opening in openings:
            moments[opening.at][1].append(opening)
        for at in sorted(moments):
            batch, opened = moments[at]
            await self.walk.advance(at - _MOMENT)
            for happening in _rounds(batch):
                await self._end(happening, at)
                await self._let_in(happening, at)
            for opening in opened:
                await self._open(opening, at)

    async def _end(self, events: Sequence[Played], at: datetime) -> None:
        """End the waits and passages that these events end; of one person there is one event at most."""
        heard = [
            (Happened(slot, event.type, at, event.properties), place)
            for event in events
            for slot in self.passages.of_person(event.number)
            if (place := self.walk.place_of(slot)) is not None
        ]
        reasons = await self._ending([happened for happened, _ in heard], at)
        going_on = [(happened, place) for happened, place in heard if happened.slot not in reasons]
        matched = await self._matching(going_on, at)
        for happened, place in heard:
            if happened.slot in reasons:
                self.tally.taken_out(place.node, reasons[happened.slot], happened.slot, at)
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
            node = self.definition.nodes[name]
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
                held = slots(await self.asking.holding(when, counting, at)) if counting else ()
            opened.update(dict.fromkeys(held, index))
        self.met.update(opened)
        return set(opened)

    def _rules(self) -> list[Goal | ExitRule]:
        """Return what ends passages; the last that holds names the reason."""
        goal = [self.definition.goal] if self.definition.goal is not None else []
        return [*reversed(self.definition.exit_when), *goal]

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
            if each.type == rule.event and matches(rule.match, self.passages.entry(each.slot), each.properties)
        ]
        return await self.asking.holding_of(rule.where, concerned, at)

    async def _let_in(self, events: Sequence[Played], at: datetime) -> None:
        """Let those in whose event is a way in, by the rules of that way."""
        by_way: dict[int, list[tuple[Played, int]]] = defaultdict(list)
        for event in events:
            for ordinal, slot in event.ways:
                by_way[ordinal].append((event, slot))
        for ordinal, arrived in sorted(by_way.items()):
            entry = self.definition.entries[ordinal]
            if not isinstance(entry, EventEntry):
                coming = [Coming(event.number, "", slot) for event, slot in arrived]
                await self.entrances.let_in(entry.again, coming, at)
                continue
            happened = [Happened(slot, event.type, at, event.properties) for event, slot in arrived]
            holding = await self.asking.holding_of(entry.where, happened, at)
            self.tally.refuse("condition", len(arrived) - len(holding))
            keyed = [(event, slot, key_of(entry, event.properties)) for event, slot in arrived if slot in holding]
            coming = [Coming(event.number, key, slot) for event, slot, key in keyed if key is not None]
            self.tally.refuse("no_key", len(keyed) - len(coming))
            await self.entrances.let_in(entry.again, coming, at)

    async def _open(self, opening: Opening, at: datetime) -> None:
        """Let those in whom the clock does."""
        coming = opening.coming
        if opening.member_of is not None and coming:
            asked = from_slots(each.slot for each in coming)
            members = await self.asking.holding(opening.member_of, asked, at)
            coming = [each for each in coming if members >> each.slot & 1]
        if not opening.noted:
            coming = [each for each in coming if not self.entrances.came(each)]
        await self.entrances.let_in(opening.again, coming, at)


def _rounds(events: Iterable[Played]) -> list[list[Played]]:
    """Split events into rounds that hold at most one event of each person, in their order."""
    seen: Counter[int] = Counter()
    split: list[list[Played]] = []
    for event in events:
        number = seen[event.number]
        seen[event.number] += 1
        if number == len(split):
            split.append([])
        split[number].append(event)
    return split
