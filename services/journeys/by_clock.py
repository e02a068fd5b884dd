"""Ways into a journey that the clock opens: the schedules owed to Temporal for them, and what their pages share."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from sqlalchemy import DateTime, func, select

from contracts.events import TENANT_UPDATED
from contracts.journey_entries import BY_CRON, BY_DATE, EntryInput
from core.actor import SYSTEM
from core.database import TenantSession
from journeys.checking import Problem, problem_at
from journeys.definition import JourneyDefinition
from journeys.entries import MAX_ENTRIES, CronEntry, DateEntry, Entry, entry_kind
from models import Journey, Tenant, WorkflowSchedule
from services.events.bus import Consumer, EventRow
from services.journeys import versions
from services.journeys.candidates import Enrolled
from services.journeys.versions import LoadedVersion
from services.shared import activity, schedules
from services.shared.cron import problem_with_cron

LATEST: Final = timedelta(hours=24)
"""Whoever could not enter within a day of their moment does not: as for an event that is told late."""
_QUARTERS: Final = (0, 15, 30, 45)
"""Zones differ by quarters of an hour, so a time of day comes in each of them at one of four minutes."""
_DOMAIN: Final = "marketing"


async def follow(session: TenantSession, journey: Journey) -> None:
    """Have Temporal keep the schedules that the journey needs as it is now: none unless it lets people in."""
    wanted: dict[UUID, tuple[int, Entry]] = {}
    if journey.status == "active" and not journey.entry_paused and journey.active_version_id is not None:
        definition = (await versions.load(session, journey.active_version_id)).definition
        wanted = {
            schedule_id(journey.id, ordinal): (ordinal, entry)
            for ordinal, entry in enumerate(definition.entries)
            if isinstance(entry, DateEntry | CronEntry)
        }
    of_journey = [schedule_id(journey.id, ordinal) for ordinal in range(MAX_ENTRIES)]
    row = WorkflowSchedule
    found = await session.scalars(
        select(row).where(row.tenant_id == session.tenant_id, row.id.in_(of_journey), row.wanted)
    )
    kept = {each.id: each for each in found}
    for entity_id in kept.keys() - wanted.keys():
        await schedules.drop(session, entity_id=entity_id)
    for entity_id, (ordinal, entry) in wanted.items():
        await _keep(session, journey, entity_id, ordinal, entry, kept.get(entity_id))


def schedule_id(journey_id: UUID, ordinal: int) -> UUID:
    """Return what the schedule of a journey's entry is kept by."""
    return uuid5(journey_id, f"entry {ordinal}")


async def _keep(
    session: TenantSession,
    journey: Journey,
    entity_id: UUID,
    ordinal: int,
    entry: Entry,
    before: WorkflowSchedule | None,
) -> None:
    asked = EntryInput(tenant_id=session.tenant_id, journey_id=journey.id, ordinal=ordinal, what=_what(entry))
    match entry:
        case DateEntry():
            minutes = looks(entry)
            asked = asked.model_copy(update={"since": await _since(session, asked, before)})
            cron, zone, workflow = f"{','.join(map(str, minutes))} * * * *", "UTC", BY_DATE
        case CronEntry():
            cron, zone, workflow = entry.cron, await _zone(session), BY_CRON
        case _:
            return
    await schedules.keep(
        session, workflow=workflow, entity_id=entity_id, input=asked, cron=cron, time_zone=zone, domain=_DOMAIN
    )


def looks(entry: DateEntry) -> list[int]:
    """Return at which minutes of every hour it is looked whose date has come round."""
    return sorted({(entry.at.minute + quarter) % 60 for quarter in _QUARTERS})


async def _since(session: TenantSession, asked: EntryInput, before: WorkflowSchedule | None) -> datetime:
    """Return from when on moments count: as long as the entry has been there without a break."""
    if before is not None and before.workflow == BY_DATE:
        known = EntryInput.model_validate(before.input)
        if known.since is not None and known.what == asked.what:
            return known.since
    return (await session.scalars(select(func.now(type_=DateTime(timezone=True))))).one()


def problems(definition: JourneyDefinition) -> list[Problem]:
    """Return what is wrong with the cron expressions of a definition."""
    found: list[Problem] = []
    for place, entry in definition.placed_entries:
        reason = problem_with_cron(entry.cron) if isinstance(entry, CronEntry) else None
        if reason is not None:
            found.append(problem_at((*place, "cron"), reason))
    return found


async def version_of(session: TenantSession, asked: EntryInput) -> LoadedVersion | None:
    """Return the version that people now enter by this way, or None where there is no such way any more."""
    journey = await session.get(Journey, {"tenant_id": session.tenant_id, "id": asked.journey_id})
    if journey is None or journey.status != "active" or journey.entry_paused or journey.active_version_id is None:
        return None
    version = await versions.load(session, journey.active_version_id)
    entries = version.definition.entries
    entry = entries[asked.ordinal] if asked.ordinal < len(entries) else None
    return version if entry is not None and _what(entry) == asked.what else None


def is_late(due_at: datetime) -> bool:
    """Whether nobody is let in for that moment any more."""
    return datetime.now(UTC) - due_at > LATEST


def _what(entry: Entry) -> str:
    match entry:
        case DateEntry():
            return str(entry.date)
        case CronEntry():
            return entry.segment
        case _:
            return ""


async def log(
    session: TenantSession, version: LoadedVersion, ordinal: int, done: Enrolled, *, due_at: datetime
) -> None:
    """Note in the journey's log how many entered by the clock, if anybody did."""
    if not done.enrollment_ids:
        return
    await activity.record(
        session,
        by=SYSTEM,
        subject_type="journey",
        subject_id=version.journey_id,
        type="journey.enrolled",
        changes={
            "entry": (None, entry_kind(version.definition.entries[ordinal])),
            "due_at": (None, due_at.isoformat()),
            "enrolled": (None, len(done.enrollment_ids)),
            "skipped": (None, dict(done.skipped)),
        },
    )


async def _zone(session: TenantSession) -> str:
    return await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id)) or "UTC"


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Have the schedules go by the tenant's clocks, which are others now."""
    if any("time_zone" in event.properties.get("fields", ()) for event in events):
        await schedules.move(session, workflow=BY_CRON, time_zone=await _zone(session))


CONSUMER: Final = Consumer("journeys_by_clock", handle, frozenset({TENANT_UPDATED}))
