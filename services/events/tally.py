"""Counts the events of each tenant by type and day, as the bus shows them: in the store, without fetching any."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncSession

CURSOR: Final = "event_types"
"""Of the counting, among those of the consumers."""
KEPT: Final = timedelta(days=45)
"""How long days are kept: more than anybody asks for."""

_COUNT: Final = """
    WITH counted AS (
      SELECT tenant_id, type, CAST(received_at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS number,
             min(received_at) AS first, max(received_at) AS last, max(position) AS position
      FROM ({}) AS ahead GROUP BY 1, 2, 3
    ), days AS (
      INSERT INTO event_type_day AS d (tenant_id, type, day, events)
      SELECT tenant_id, type, day, number FROM counted ORDER BY tenant_id, type, day
      ON CONFLICT (tenant_id, type, day) DO UPDATE SET events = d.events + excluded.events
    ), seen AS (
      INSERT INTO event_type AS t (tenant_id, id, type, first_seen_at, last_seen_at)
      SELECT tenant_id, tl_uuid7(), type, min(first), max(last) FROM counted GROUP BY tenant_id, type
      ORDER BY tenant_id, type
      ON CONFLICT (tenant_id, type) DO UPDATE
      SET first_seen_at = least(t.first_seen_at, excluded.first_seen_at),
          last_seen_at = greatest(t.last_seen_at, excluded.last_seen_at)
    )
    SELECT coalesce(sum(number), 0)::bigint AS number, max(position) AS last FROM counted
"""
_FORGET: Final = text("""
    DELETE FROM event_type_day WHERE (tenant_id, type, day) IN (
      SELECT tenant_id, type, day FROM event_type_day WHERE day < current_date - CAST(:days AS int) LIMIT :page
    )
""")


@dataclass(frozen=True, slots=True)
class Counted:
    """How much was counted."""

    number: int
    last: int | None
    """The highest position."""


async def count(session: AsyncSession, ahead: str, arguments: dict[str, Any]) -> Counted:
    """Add events to the counts; `ahead` selects them with tenant_id, type, received_at and position.

    Needs a session of tl_system. Whoever calls moves the cursor `CURSOR` in the same transaction.
    """
    row = (await session.execute(text(_COUNT.format(ahead)), arguments)).one()
    return Counted(row.number, row.last)


async def forget(session: AsyncSession, page: int) -> int:
    """Delete up to `page` counts of days long gone; return how many. Needs a session of tl_system."""
    gone = await session.execute(_FORGET, {"days": KEPT.days, "page": page})
    return cast("CursorResult[Any]", gone).rowcount
