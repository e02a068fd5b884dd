"""The rules of segments as they stand, read once for each revision."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from journeys.conditions import Condition
from models import Segment
from services.marketing.segments import rules
from services.marketing.segments.statements import Rules
from services.shared.prepared import fetch

KEPT: Final = 10_000
"""Revisions that a process keeps; those of a few hundred tenants."""

_STANDING: Final = """
SELECT id, key, revision FROM segment
WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND rules IS NOT NULL AND refresh = 'realtime'
"""

_parsed: dict[tuple[UUID, int], Condition] = {}


async def realtime(session: TenantSession, segment_ids: Collection[UUID]) -> dict[UUID, Rules]:
    """Return the rules of those of these segments that are kept fresh by themselves."""
    rows = await fetch(session, _STANDING, session.tenant_id, list(segment_ids))
    unread = [segment_id for segment_id, _, revision in rows if (segment_id, revision) not in _parsed]
    if unread:
        found = await session.execute(
            select(Segment.id, Segment.revision, Segment.rules).where(
                Segment.tenant_id == session.tenant_id, Segment.id.in_(unread), Segment.rules.is_not(None)
            )
        )
        if len(_parsed) > KEPT:
            _parsed.clear()
        for segment_id, revision, raw in found:
            _parsed[segment_id, revision] = rules.parse(raw)
    return {
        segment_id: Rules(segment_id, key, revision, _parsed[segment_id, revision])
        for segment_id, key, revision in rows
        if (segment_id, revision) in _parsed  # else it was changed just now, and everybody is looked at anyway
    }
