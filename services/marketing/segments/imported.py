"""Putting the people of a file into the static segment it is for, as the import tells of them page by page."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import select

from contracts.events import PERSON_IMPORTED
from core.actor import Actor
from core.database import TenantSession
from models import Segment
from services.events.bus import Consumer, EventRow
from services.identity import aliases
from services.marketing.segments import membership


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Put people in; where the segment is gone by now, or is another, nobody."""
    asked: dict[tuple[str, str], list[EventRow]] = defaultdict(list)
    for event in events:
        if "segment" in event.properties:  # else the person was erased since
            asked[str(event.properties["segment"]), str(event.properties["import"])].append(event)
    found = await session.scalars(
        select(Segment).where(
            Segment.tenant_id == session.tenant_id,
            Segment.kind == "static",
            Segment.key.in_(sorted({key for key, _ in asked})),
        )
    )
    segments = {segment.key: segment for segment in found}
    merged = await aliases.among(session, [event.subject_id for event in events])
    for (key, actor), told in asked.items():
        if (segment := segments.get(key)) is None:
            continue
        live: set[UUID] = set()
        people: set[UUID] = set()
        for event in told:
            person_id = merged.get(event.subject_id, event.subject_id)
            people.add(person_id)
            if event.live:
                live.add(person_id)
        await membership.add(session, segment, sorted(people), source="import", live=live, by=Actor(actor))


CONSUMER: Final = Consumer("segments_imported", handle, frozenset({PERSON_IMPORTED}))
