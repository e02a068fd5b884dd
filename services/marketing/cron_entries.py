"""Letting a segment into a journey each time that it is due: page by page, each a transaction and a cohort of its own.

A page holds a lock on its occurrence and first looks whom an attempt before has let in, as docs/decisions/
enrolling-a-segment.md has it: so whoever dies in the middle leaves nobody out, and lets nobody in twice.
"""

from typing import Final
from uuid import UUID, uuid5

from sqlalchemy import select

from contracts.journey_entries import EntryDone, EntryPage
from core.actor import SYSTEM
from core.database import TenantSession
from core.errors import NotFoundError, UnavailableError
from journeys.entries import CronEntry
from models import Segment, SegmentMember
from services.journeys import by_clock, enrollments, requests
from services.journeys.candidates import Candidate
from services.marketing.segments import definitions
from services.shared import activity

PAGE: Final = enrollments.COHORT_SIZE


async def page(session: TenantSession, asked: EntryPage) -> EntryDone:
    """Let in the next people of the segment; repeated, it lets in whom it missed.

    Raises:
        UnavailableError: the segment has not been computed by its rules as they stand: ask again.
    """
    over = EntryDone(entered=0, after=None)
    version = await by_clock.version_of(session, asked.entry)
    entry = None if version is None else version.definition.entries[asked.entry.ordinal]
    if version is None or not isinstance(entry, CronEntry):
        return over
    try:
        segment = await definitions.find(session, entry.segment)
    except NotFoundError:
        return over
    if by_clock.is_late(asked.due_at):
        await _log_missed(session, asked)
        return over
    if segment.kind == "dynamic" and segment.computed_revision != segment.revision:
        raise UnavailableError(f"The segment {segment.key} has not been computed by its rules yet.")
    people = await _members(session, segment, asked.entry.after)
    occurrence = uuid5(by_clock.schedule_id(asked.entry.journey_id, asked.entry.ordinal), asked.due_at.isoformat())
    before = await requests.let_in_before(session, version, people, occurrence)
    told = {"segment": segment.key, "due_at": asked.due_at.isoformat()}
    done = await enrollments.enroll(
        session,
        version,
        [Candidate(person_id, told) for person_id in people if person_id not in before],
        again=entry.again,
        source="cron",
        request=occurrence,
    )
    await by_clock.log(session, version, asked.entry.ordinal, done, due_at=asked.due_at)
    return EntryDone(entered=len(done.enrollment_ids), after=people[-1] if len(people) == PAGE else None)


async def _members(session: TenantSession, segment: Segment, after: UUID | None) -> list[UUID]:
    members = (
        select(SegmentMember.person_id)
        .where(SegmentMember.tenant_id == session.tenant_id, SegmentMember.segment_id == segment.id)
        .order_by(SegmentMember.person_id)
        .limit(PAGE)
    )
    if after is not None:
        members = members.where(SegmentMember.person_id > after)
    return list((await session.scalars(members)).all())


async def _log_missed(session: TenantSession, asked: EntryPage) -> None:
    """Note in the journey's log that people were not let in, as it is too late for them."""
    await activity.record(
        session,
        by=SYSTEM,
        subject_type="journey",
        subject_id=asked.entry.journey_id,
        type="journey.entry_missed",
        changes={"segment": (None, asked.entry.what), "due_at": (None, asked.due_at.isoformat())},
    )
