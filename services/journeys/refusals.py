"""Who was not let into a journey: kept for whoever asks why, and counted so that silence shows.

A row for each subject, journey and reason: however often it happens, there are no more of them than people.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Integer, Text, Uuid, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from models import JourneyRefusal
from services.journeys.candidates import Refusal
from services.journeys.versions import LoadedVersion

KEPT: Final = timedelta(days=90)
"""After so long without another one it is forgotten."""

# In one order, so that two who refuse the same people never wait for each other.
_RECORD: Final = text("""
INSERT INTO journey_refusal (tenant_id, subject_id, journey_id, version_id, reason, event_id, times)
SELECT :tenant AS tenant_id, r.subject_id, r.journey_id, r.version_id, r.reason, r.event_id, r.times
FROM unnest(:subjects, :journeys, :versions, :reasons, :events, :times)
  AS r(subject_id, journey_id, version_id, reason, event_id, times)
ORDER BY r.subject_id, r.journey_id, r.reason
ON CONFLICT (tenant_id, subject_id, journey_id, reason) DO UPDATE
SET times = journey_refusal.times + excluded.times, at = excluded.at, version_id = excluded.version_id,
    event_id = excluded.event_id
""").bindparams(
    bindparam("subjects", type_=ARRAY(Uuid)),
    bindparam("journeys", type_=ARRAY(Uuid)),
    bindparam("versions", type_=ARRAY(Uuid)),
    bindparam("reasons", type_=ARRAY(Text)),
    bindparam("events", type_=ARRAY(Uuid)),
    bindparam("times", type_=ARRAY(Integer)),
)


def of(version: LoadedVersion, subject_id: UUID, event_id: UUID | None, reason: str) -> Refusal:
    """Return what is to be kept of somebody whom a version did not let in."""
    return Refusal(version.journey_id, version.id, subject_id, event_id, reason)


async def record(session: TenantSession, refused: Sequence[Refusal]) -> None:
    """Keep who was refused. Of a transaction it is the last thing, so that whoever waits here holds up no entry."""
    if not refused:
        return
    last: dict[tuple[UUID, UUID, str], Refusal] = {}
    times: dict[tuple[UUID, UUID, str], int] = {}
    for refusal in refused:
        key = (refusal.subject_id, refusal.journey_id, refusal.reason)
        last[key] = refusal
        times[key] = times.get(key, 0) + 1
    await session.execute(
        _RECORD,
        {
            "tenant": session.tenant_id,
            "subjects": [refusal.subject_id for refusal in last.values()],
            "journeys": [refusal.journey_id for refusal in last.values()],
            "versions": [refusal.version_id for refusal in last.values()],
            "reasons": [refusal.reason for refusal in last.values()],
            "events": [refusal.event_id for refusal in last.values()],
            "times": list(times.values()),
        },
    )


async def counts(session: TenantSession, journey_id: UUID) -> Mapping[str, int]:
    """Return how often a journey refused somebody, by reason, as far back as it is kept."""
    rows = await session.execute(
        select(JourneyRefusal.reason, func.sum(JourneyRefusal.times).label("times"))
        .where(JourneyRefusal.tenant_id == session.tenant_id, JourneyRefusal.journey_id == journey_id)
        .group_by(JourneyRefusal.reason)
        .order_by(JourneyRefusal.reason)
    )
    return {row.reason: int(row.times) for row in rows}


async def forget(session: AsyncSession) -> None:
    """Delete what is past its time, of all tenants; needs a session of tl_system."""
    await session.execute(delete(JourneyRefusal).where(JourneyRefusal.at < func.now() - KEPT))
