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

KEPT: Final = 10_000
"""Revisions that a process keeps; those of a few hundred tenants."""

_parsed: dict[tuple[UUID, int], Condition] = {}


async def realtime(session: TenantSession, segment_ids: Collection[UUID]) -> dict[UUID, Rules]:
    """Return the rules of those of these segments that are kept fresh by themselves."""
    rows = (
        await session.execute(
            select(Segment.id, Segment.key, Segment.revision).where(
                Segment.tenant_id == session.tenant_id,
                Segment.id.in_(segment_ids),
                Segment.rules.is_not(None),
                Segment.refresh == "realtime",
            )
        )
    ).all()
    unread = [row.id for row in rows if (row.id, row.revision) not in _parsed]
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
        row.id: Rules(row.id, row.key, row.revision, _parsed[row.id, row.revision])
        for row in rows
        if (row.id, row.revision) in _parsed  # else it was changed just now, and everybody is looked at anyway
    }
