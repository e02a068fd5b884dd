"""Ways in that the clock opens, in a simulation: whom dates and schedules let in, and when.

Moments rest on what the store says of the audience when it begins, as the real looks would find it by then.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Integer, Text, Uuid, column, select, table

from core.database import TenantSession
from core.errors import InvalidError
from journeys.checking import Place, dotted
from journeys.conditions import SegmentCondition
from journeys.definition import JourneyDefinition
from journeys.durations import zone_or_utc
from journeys.entries import Again, CronEntry, DateEntry
from journeys.keeping_nodes import AddToSegmentNode
from services.journeys import by_clock, date_entries
from services.journeys.simulation.entrances import Coming
from services.journeys.simulation.passages import AUDIENCE, Slots
from services.shared.cron import next_time

MAX_OCCURRENCES: Final = 50_000
"""A schedule that comes more often, until a simulation ends, is none."""
_ONCE: Final = Again()
_MEMBERSHIPS: Final = table(
    "marketing_segment_memberships", column("tenant_id", Uuid), column("person_id", Uuid), column("segment_key", Text)
)


@dataclass(frozen=True, slots=True)
class Opening:
    """A moment at which a way in lets people in."""

    at: datetime
    again: Again
    coming: Sequence[Coming]
    member_of: SegmentCondition | None = None
    """Who is not so by then does not come."""
    noted: bool = True
    """Whether those who came before count as refused; of a date's occurrence they are just not meant."""


def lets_in(definition: JourneyDefinition) -> bool:
    """Whether the clock opens a way into the journey."""
    return any(isinstance(entry, DateEntry | CronEntry) for entry in definition.entries)


async def openings(
    session: TenantSession,
    definition: JourneyDefinition,
    slots: Slots,
    *,
    begin: datetime,
    until: datetime,
    tenant_zone: str,
) -> list[Opening]:
    """Return when the ways in open for the audience after `begin` and until `until`, a slot kept for each who may come.

    Raises:
        InvalidError: a schedule comes too often, or people may enter too often.
    """
    found: list[Opening] = []
    for place, entry in definition.placed_entries:
        match entry:
            case DateEntry():
                found += await _dates(session, entry, slots, begin, until)
            case CronEntry():
                found += await _schedule(
                    session, definition, entry, slots, _occurrences(place, entry, tenant_zone, begin, until)
                )
            case _:
                pass
    return found


async def _dates(
    session: TenantSession, entry: DateEntry, slots: Slots, begin: datetime, until: datetime
) -> list[Opening]:
    audience = date_entries.PERSON.c.id.in_(select(AUDIENCE.c.subject_id))
    dated = date_entries.dated(session.tenant_id, entry, begin, until, audience).subquery()
    rows = await session.execute(
        select(AUDIENCE.c.number, dated.c.day, dated.c.zone)
        .join(dated, dated.c.id == AUDIENCE.c.subject_id)
        .order_by(AUDIENCE.c.number)
    )
    looks = by_clock.looks(entry)
    coming: dict[datetime, list[Coming]] = defaultdict(list)
    for row in rows:
        for occurrence, moment in entry.calendar.moments(row.day, zone_or_utc(row.zone), begin, until):
            at = _look(moment.astimezone(UTC), looks)
            if at <= until:
                slot = slots.keep(row.number, date_entries.told(entry, row.day, occurrence))
                coming[at].append(Coming(row.number, occurrence.isoformat(), slot))
    return [Opening(at, _ONCE, those, noted=False) for at, those in coming.items()]


def _look(moment: datetime, minutes: Sequence[int]) -> datetime:
    """Return when it is first looked from a moment on."""
    at = moment.replace(second=0, microsecond=0)
    if at < moment:
        at += timedelta(minutes=1)
    return at + timedelta(minutes=min((minute - at.minute) % 60 for minute in minutes))


def _occurrences(place: Place, entry: CronEntry, zone: str, begin: datetime, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    at = next_time(entry.cron, zone, begin)
    while at is not None and at <= until:
        if len(found) == MAX_OCCURRENCES:
            raise InvalidError.of(dotted((*place, "cron")), f"comes more than {MAX_OCCURRENCES:,} times until then")
        found.append(at)
        at = next_time(entry.cron, zone, at)
    return found


async def _schedule(
    session: TenantSession, definition: JourneyDefinition, entry: CronEntry, slots: Slots, moments: Sequence[datetime]
) -> list[Opening]:
    may_join = any(
        isinstance(node, AddToSegmentNode) and node.segment == entry.segment for node in definition.nodes.values()
    )
    numbers = await _members(session, None if may_join else entry.segment)
    condition = SegmentCondition(in_segment=entry.segment)
    found: list[Opening] = []
    coming: list[Coming] = []
    for at in moments:
        # Whom the first occurrence does not let in once and for all, no later one does: they need no slots for it.
        if not found or entry.again.mode != "never" or may_join:
            told = {"segment": entry.segment, "due_at": at.isoformat()}
            coming = [Coming(number, "", slots.keep(number, told)) for number in numbers]
        found.append(Opening(at, entry.again, coming, condition))
    return found


async def _members(session: TenantSession, segment: str | None) -> Sequence[int]:
    """Return those of the audience who are in a segment, or all."""
    statement = select(AUDIENCE.c.number.cast(Integer)).order_by(AUDIENCE.c.number)
    if segment is not None:
        statement = statement.join(_MEMBERSHIPS, _MEMBERSHIPS.c.person_id == AUDIENCE.c.subject_id).where(
            _MEMBERSHIPS.c.tenant_id == session.tenant_id, _MEMBERSHIPS.c.segment_key == segment
        )
    return (await session.scalars(statement)).all()
