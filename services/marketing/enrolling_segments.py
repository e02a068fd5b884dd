"""Letting a whole segment into a journey: page by page, each page a transaction and a cohort of its own.

See docs/decisions/enrolling-a-segment.md for why a request sent again does nothing twice.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import select

from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import ConflictError
from models import Segment, SegmentMember
from services.journeys import enrollments, requests
from services.journeys.enrollments import COHORT_SIZE, Candidate
from services.journeys.versions import LoadedVersion


@dataclass(frozen=True, slots=True)
class Asked:
    """What everybody enters by, and who asks for it."""

    entry: Mapping[str, JsonValue]
    entry_key: str
    by: Actor
    request: UUID | None
    """Tells a request that is sent again; None where the caller gave nothing to know it by."""


@dataclass(slots=True)
class Totals:
    """How many entered, and why the others did not."""

    enrolled: int = 0
    skipped: Counter[str] = field(default_factory=Counter[str])
    first_ids: list[UUID] = field(default_factory=list[UUID])
    """Of the enrollments, as many as were asked for."""


async def enroll(
    session: TenantSession, database: Database, version: LoadedVersion, segment: Segment, asked: Asked, *, shown: int
) -> Totals:
    """Enroll everybody who is in the segment as this begins.

    Args:
        session: Reads who is in the segment; nothing is written by it.
        database: Where each page's own transaction is opened. Whatever of them is committed stays, if this dies.
        version: Of the journey.
        segment: Whose members.
        asked: What they enter by.
        shown: Ids to return.

    Raises:
        ConflictError: the segment has not been computed by its rules as they stand.
    """
    if segment.kind == "dynamic" and segment.computed_revision != segment.revision:
        raise ConflictError(
            f"The segment {segment.key} has not been computed by its rules yet; ask again when it has been."
        )
    members = (
        select(SegmentMember.person_id)
        .where(SegmentMember.tenant_id == session.tenant_id, SegmentMember.segment_id == segment.id)
        .order_by(SegmentMember.person_id)
        .execution_options(yield_per=COHORT_SIZE)
    )
    totals = Totals()
    # A cursor: one snapshot, one page in memory.
    async for page in (await session.stream_scalars(members)).partitions():
        async with database.tenant(session.tenant_id) as own:
            ids, skipped = await _page(own, version, segment, page, asked)
        totals.enrolled += len(ids)
        totals.skipped.update(skipped)
        totals.first_ids += ids[: shown - len(totals.first_ids)]
    return totals


async def _page(
    session: TenantSession, version: LoadedVersion, segment: Segment, people: Sequence[UUID], asked: Asked
) -> tuple[list[UUID], Counter[str]]:
    before: dict[UUID, UUID] = {}
    if asked.request is not None:
        before = await requests.let_in_before(session, version, people, asked.request)
    candidates = [Candidate(each, asked.entry, asked.entry_key) for each in people if each not in before]
    done = await enrollments.enroll_by_api(
        session, version, candidates, by=asked.by, segment=segment.key, request=asked.request
    )
    return [*before.values(), *done.enrollment_ids], done.skipped
