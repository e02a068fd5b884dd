"""Events of the past that a simulation plays: what of them a journey hears, and when they come again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from contracts.events import DEAL_STAGE_ENTERED
from core.database import TenantSession
from core.errors import InvalidError
from journeys.conditions import events_of
from journeys.definition import JourneyDefinition
from journeys.entries import SegmentEntry
from journeys.wait_checks import events_heard
from journeys.waits import WaitUntilNode
from services.journeys import hearing
from services.journeys.meeting import conditions_of
from services.journeys.simulation.asking import Window
from services.journeys.simulation.passages import Slots

MAX_EVENTS: Final = 500_000
MAX_MOMENTS: Final = 5_000
"""Events at more moments than this are put together, at the end of the shortest of `GRAINS` that suffices."""
GRAINS: Final = (1, 60, 300, 900, 3600)

_READ: Final = """
    SELECT s.number, e.type, e.occurred_at, e.properties
    FROM event e JOIN simulated_subject s ON {whose}
    WHERE e.tenant_id = :tenant AND e.type = ANY(:types) AND e.live
      AND e.occurred_at >= :since AND e.occurred_at < :until
    ORDER BY e.occurred_at, e.position
    LIMIT :most
"""
_WHOSE: Final = {
    "person": "s.person_id = e.person_id",
    "deal": "s.subject_id = e.subject_id AND e.subject_type = 'deal'",
}
"""An event concerns its subject, and its person."""
_READS: Final = {
    subject: text(_READ.format(whose=whose)).bindparams(bindparam("types", type_=ARRAY(Text)))
    for subject, whose in _WHOSE.items()
}


@dataclass(slots=True)
class Played:
    """An event as it is played."""

    number: int
    """Of the subject."""
    type: str
    at: datetime
    properties: dict[str, Any]
    ways: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """The ways in that it may be, each with the slot kept for it."""
    by: Sequence[int] = ()
    """The slots of the passages that brought it about, at a node: under way, they did not wait for it."""


@dataclass(frozen=True, slots=True)
class Playlist:
    """The events of a simulation, in their order."""

    events: Sequence[Played]
    grain: int
    """Seconds at whose end events are put together; 0 where they are played exactly when they happened."""


def heard(definition: JourneyDefinition, *, entering: bool) -> set[str]:
    """Return the types of events that a journey listens to, and those that say where its deals stand."""
    types = {event for event, kind, _ in hearing.heard(definition) if entering or kind != "entry"}
    for node in definition.nodes.values():
        types |= {event for _, event in events_heard(node, ())}
        if isinstance(node, WaitUntilNode):
            types |= {counted for _, when in conditions_of(node) for counted in events_of(when)}
    return types | ({DEAL_STAGE_ENTERED} if definition.subject == "deal" else set())


async def read(session: TenantSession, subject: str, types: set[str], window: Window, until: datetime) -> list[Played]:
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
    rows = (await session.execute(_READS[subject], asked)).all()
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
    ways = [(ordinal, entry, hearing.letting_in(entry)) for ordinal, entry in enumerate(definition.entries)]
    for event in events:
        for ordinal, entry, type_of in ways:
            if type_of != event.type:
                continue
            if isinstance(entry, SegmentEntry) and event.properties.get("segment") != entry.segment:
                continue
            event.ways.append((ordinal, slots.keep(event.number, event.properties)))
