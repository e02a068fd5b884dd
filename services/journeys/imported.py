"""Letting the people of a file into the journey it is for, as the import tells of them page by page.

As with segments (docs/decisions/importing-into-a-segment.md): the pages write an event for each person, and a batch of
them is handled in the transaction that moves the consumer's cursor. Who is on two pages enters once.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from uuid import uuid5

from sqlalchemy import select

from contracts.events import PERSON_IMPORTED
from core.database import TenantSession
from models import Journey
from services.events.bus import Consumer, EventRow
from services.identity import aliases
from services.journeys import enrollments, refusals, requests, versions
from services.journeys.candidates import Candidate, Refusal


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Let people in, live or not: they were asked for by name. Where there is no such journey by now, nobody."""
    asked: dict[tuple[str, str], list[EventRow]] = defaultdict(list)
    for event in events:
        if "journey" in event.properties:
            asked[str(event.properties["journey"]), str(event.properties["import"])].append(event)
    if not asked:
        return
    keys = sorted({key for key, _ in asked})
    found = await session.scalars(
        select(Journey).where(
            Journey.tenant_id == session.tenant_id, Journey.domain == "marketing", Journey.key.in_(keys)
        )
    )
    journeys = {journey.key: journey for journey in found}
    refused: list[Refusal] = []
    for (key, origin), told in sorted(asked.items()):
        if key in journeys:
            await _let_in(session, journeys[key], origin, told, refused)
    await refusals.record(session, refused)


async def _let_in(
    session: TenantSession, journey: Journey, origin: str, told: Sequence[EventRow], refused: list[Refusal]
) -> None:
    if journey.active_version_id is None:
        return
    version = await versions.load(session, journey.active_version_id)
    if version.definition.subject != "person":
        return
    merged = await aliases.among(session, [event.subject_id for event in told])
    first = {merged.get(event.subject_id, event.subject_id): event for event in reversed(told)}
    entry = {"import": origin.removeprefix("import:")}
    key = enrollments.key_of(version.definition.by_api, entry)
    if key is None:
        refused += [refusals.of(version, person_id, event.id, "no_key") for person_id, event in first.items()]
        return
    request = uuid5(journey.id, origin)
    before = await requests.let_in_before(session, version, sorted(first), request)
    candidates = [
        Candidate(person_id, entry, key, event.id, event.position, event.received_at)
        for person_id, event in sorted(first.items(), key=lambda item: item[1].position)
        if person_id not in before
    ]
    await enrollments.enroll(
        session,
        version,
        candidates,
        again=version.definition.by_api.again,
        source="import",
        request=request,
        noting=refused,
    )


CONSUMER: Final = Consumer("journeys_imported", handle, frozenset({PERSON_IMPORTED}))
