"""Playing events of the past to a simulation: they let people in, end waits and passages, as `triggers` has it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from contracts.events import SEGMENT_ENTERED, SEGMENT_LEFT
from core.database import TenantSession
from core.errors import InvalidError
from journeys.conditions import Condition, events_of
from journeys.definition import ExitRule, Goal, JourneyDefinition
from journeys.durations import add
from journeys.entries import Again, EventEntry, SegmentEntry
from journeys.evaluate import Facts, NeedsDatabase, evaluate, match_values, property_values
from journeys.members import from_slots, slots
from journeys.virtual import Place, Walk
from journeys.waits import EventWay, WaitForEventNode, WaitUntilNode
from services.journeys.enrollments import key_of
from services.journeys.meeting import conditions_of
from services.journeys.simulation.asking import Asking, Happened, Window
from services.journeys.simulation.passages import Passages
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


def entering(definition: JourneyDefinition, events: Iterable[Played]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keep a slot for each way in that an event may be; yield the person and the properties of each, in that order."""
    ways = [(ordinal, entry, _type_of(entry)) for ordinal, entry in enumerate(definition.entries)]
    slot = 0
    for event in events:
        for ordinal, entry, type_of in ways:
            if type_of != event.type:
                continue
            if isinstance(entry, SegmentEntry) and event.properties.get("segment") != entry.segment:
                continue
            event.ways.append((ordinal, slot))
            slot += 1
            yield event.number, event.properties


@dataclass(slots=True)
class Player:
    """Plays events to a walk."""

    definition: JourneyDefinition
    walk: Walk
    passages: Passages
    asking: Asking
    tally: Tally
    begin: datetime
    met: dict[int, int]
    """Which way is opened for whom by what they hear, as the world looks at it."""
    entered_at: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """Of those who entered by an event; the others did when the simulation began."""
    _inside: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """The passages of a person and key, the newest last."""

    async def play(self, events: Sequence[Played]) -> None:
        """Play events in their order, and do what falls due between them; at the same instant the event comes first."""
        for at, batch in groupby(events, key=lambda event: event.at):
            await self.walk.advance(at - _MOMENT)
            for happening in _rounds(batch):
                await self._end(happening, at)
                await self._let_in(happening, at)

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
            concerned = [happened for happened in heard if self._concerns(rule, happened)]
            reasons.update(dict.fromkeys(await self._holding(rule.where, concerned, at), reason))
        return reasons

    async def _matching(self, heard: Sequence[tuple[Happened, Place]], at: datetime) -> set[int]:
        """Return who wait for what they heard."""
        waiting: dict[str, list[Happened]] = defaultdict(list)
        opening: dict[str, list[Happened]] = defaultdict(list)
        for happened, place in heard:
            node = self.definition.nodes[place.node]
            if place.phase == "listen" and isinstance(node, WaitUntilNode):
                opening[place.node].append(happened)
            if place.phase != "listen" or not isinstance(node, WaitForEventNode) or node.event != happened.type:
                continue
            wanted = match_values(node.match, self.passages.entry(happened.slot))
            if wanted is not None and property_values(wanted, happened.properties) == wanted:
                waiting[place.node].append(happened)
        matched: set[int] = set()
        for name, concerned in waiting.items():
            node = self.definition.nodes[name]
            matched |= await self._holding(node.where if isinstance(node, WaitForEventNode) else None, concerned, at)
        for name, concerned in opening.items():
            matched |= await self._opened(self.definition.nodes[name], concerned, at)
        return matched

    async def _opened(self, node: Any, heard: Sequence[Happened], at: datetime) -> set[int]:  # noqa: ANN401 - one kind
        """Return for whom what they heard opens a way out of a wait until something is so, and note which."""
        opened: dict[int, int] = {}
        for index, way in enumerate(node.ways):
            asked = [happened for happened in heard if happened.slot not in opened]
            if isinstance(way, EventWay):
                matching = [happened for happened in asked if self._means(way, happened)]
                held = await self._holding(way.where, matching, at)
            else:
                when = dict(conditions_of(node))[index]
                # Only what it counts changes its answer: all else was so on arrival, and a day's look finds the rest.
                counting = from_slots(happened.slot for happened in asked if happened.type in events_of(when))
                held = slots(await self.asking.holding(when, counting, at)) if counting else ()
            opened.update(dict.fromkeys(held, index))
        self.met.update(opened)
        return set(opened)

    def _means(self, way: EventWay, happened: Happened) -> bool:
        wanted = match_values(way.match, self.passages.entry(happened.slot))
        return (
            way.event == happened.type and wanted is not None and property_values(wanted, happened.properties) == wanted
        )

    def _rules(self) -> list[Goal | ExitRule]:
        """Return what ends passages; the last that holds names the reason."""
        goal = [self.definition.goal] if self.definition.goal is not None else []
        return [*reversed(self.definition.exit_when), *goal]

    def _concerns(self, rule: Goal | ExitRule, happened: Happened) -> bool:
        if happened.type != rule.event:
            return False
        if isinstance(rule, Goal) and rule.within is not None:
            entered = self.entered_at.get(happened.slot, self.begin)
            if happened.at > add(entered, rule.within):
                return False
        wanted = match_values(rule.match, self.passages.entry(happened.slot))
        return wanted is not None and property_values(wanted, happened.properties) == wanted

    async def _let_in(self, events: Sequence[Played], at: datetime) -> None:
        """Let those in whose event is a way in, by the rules of that way."""
        by_way: dict[int, list[tuple[Played, int]]] = defaultdict(list)
        for event in events:
            for ordinal, slot in event.ways:
                by_way[ordinal].append((event, slot))
        for ordinal, arrived in sorted(by_way.items()):
            entry = self.definition.entries[ordinal]
            happened = [Happened(slot, event.type, at, event.properties) for event, slot in arrived]
            condition = entry.where if isinstance(entry, EventEntry) else None
            holding = await self._holding(condition, happened, at)
            members = 0
            for event, slot in arrived:
                if slot not in holding:
                    self.tally.refused["condition"] += 1
                    continue
                key = key_of(entry, event.properties) if isinstance(entry, EventEntry) else ""
                refused = "no_key" if key is None else self._refused(entry.again, event.number, key, at)
                if refused is not None:
                    self.tally.refused[refused] += 1
                    continue
                self.entered_at[slot] = at
                self._inside[event.number, key or ""].append(slot)
                members |= 1 << slot
            if members:
                self.tally.entered += members.bit_count()
                await self.walk.enroll(members, at)

    def _refused(self, again: Again, number: int, key: str, at: datetime) -> str | None:
        before = self._inside.get((number, key))
        if not before:
            return None
        if again.mode != "always" and any(self.walk.place_of(slot) is not None for slot in before):
            return "already_active"
        if again.mode == "never":
            return "already_entered"
        if again.min_gap is not None and add(self.entered_at[before[-1]], again.min_gap) > at:
            return "too_soon"
        return None

    async def _holding(self, condition: Condition | None, happened: Sequence[Happened], at: datetime) -> set[int]:
        """Return the slots whose event a condition holds for: decided by the event where it says enough."""
        if condition is None:
            return {each.slot for each in happened}
        held: set[int] = set()
        undecided: list[Happened] = []
        for each in happened:
            event = {"type": each.type, "occurred_at": each.at, "properties": each.properties}
            try:
                if evaluate(condition, Facts(now=at, event=event)):
                    held.add(each.slot)
            except NeedsDatabase:
                undecided.append(each)
        if undecided:
            found = await self.asking.holding_of(condition, undecided, at)
            held.update(undecided[number].slot for number in found)
        return held


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
