"""Pages of messages: leased, kept, given back. A page is claimed whole, so a message itself is written once.

Leases are the one thing a sender does across tenants (as tl_system); what is in a page it reads as its tenant.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from core.database import Database


@dataclass(frozen=True, slots=True)
class ClaimedPage:
    """A page this sender holds."""

    tenant_id: UUID
    id: UUID
    channel: str
    size: int
    attempts: int
    """How often some of it was put off."""
    previous_owner: str | None
    """Who held it and did not give it back: what it was about must be found out first."""
    priority: int
    run_id: UUID | None
    held_for: str | None
    expires_at: datetime | None
    local_at: datetime | None
    rate_per_minute: int | None
    """Of the run, when it was claimed."""
    time_zone: str
    """The tenant's, as all below."""
    quiet_hours: Mapping[str, str] | None
    frequency_caps: Sequence[Mapping[str, Any]]
    send_limits: Sequence[Mapping[str, Any]]
    trace: str | None
    """The span that queued it, where that was traced."""

    @property
    def stream(self) -> str:
        """What it shares its limits with: pages of the tenant on the channel, of a campaign those of the run."""
        return f"{self.tenant_id}{self.channel}{self.run_id or ''}"

    def not_to_be_sent(self, now: datetime) -> str | None:
        """Return why none of it may be sent any more, None where it may."""
        if self.held_for == "cancel":
            return "cancelled"
        return "too_late" if self.expires_at is not None and self.expires_at <= now else None


# The most urgent pages first; among equals tenants take turns, who has the fewest being sent first; each tenant's in
# the order they are ready. Tenants with pages are found by jumping from one to the next in the index, whatever they
# hold.
_READY: Final = "finished_at IS NULL AND (held_for IS NULL OR held_for = 'cancel')"
_FREE: Final = """ready_at <= now() AND (leased_until IS NULL OR leased_until < now()) AND channel = ANY($3)
    AND (held_for IS NOT NULL OR tenant_id::text || channel || coalesce(run_id::text, '') <> ALL($5))"""
_LOOK_AHEAD: Final = 64
# A page whose holder did not give it back stays under its name until what it did is recorded (`adopt`): should this
# sender die in between, the next one still finds the right journal.
_CLAIM: Final = f"""
    WITH RECURSIVE turn AS (
        (SELECT priority, tenant_id FROM message_page WHERE {_READY} ORDER BY priority, tenant_id LIMIT 1)
        UNION ALL
        SELECT following.priority, following.tenant_id FROM turn CROSS JOIN LATERAL (
            SELECT priority, tenant_id FROM message_page
            WHERE {_READY} AND (priority, tenant_id) > (turn.priority, turn.tenant_id)
            ORDER BY priority, tenant_id LIMIT 1
        ) AS following
    ), line AS MATERIALIZED (
        SELECT turn.priority, first.tenant_id, first.id, first.ready_at, busy.pages + first.place AS place
        FROM turn
        CROSS JOIN LATERAL (
            SELECT count(*) AS pages FROM (
                SELECT leased_until FROM message_page
                WHERE {_READY} AND priority = turn.priority AND tenant_id = turn.tenant_id
                ORDER BY ready_at, id LIMIT {_LOOK_AHEAD}
            ) AS front WHERE leased_until >= now()
        ) AS busy
        CROSS JOIN LATERAL (
            SELECT tenant_id, id, ready_at, row_number() OVER (ORDER BY ready_at, id) AS place FROM (
                SELECT tenant_id, id, ready_at FROM message_page
                WHERE {_READY} AND priority = turn.priority AND tenant_id = turn.tenant_id AND {_FREE}
                ORDER BY ready_at, id LIMIT $4 + 4
            ) AS few
        ) AS first
        ORDER BY turn.priority, busy.pages + first.place, first.ready_at, first.id LIMIT 4 * $4
    ), chosen AS MATERIALIZED (
        SELECT page.tenant_id, page.id, page.lease_owner FROM line CROSS JOIN LATERAL (
            SELECT tenant_id, id, lease_owner FROM message_page
            WHERE tenant_id = line.tenant_id AND id = line.id AND {_READY} AND {_FREE}
            FOR UPDATE SKIP LOCKED
        ) AS page
        LIMIT $4
    )
    UPDATE message_page AS page SET leased_until = now() + $1, lease_owner = coalesce(page.lease_owner, $2)
    FROM chosen
    JOIN tenant ON tenant.id = chosen.tenant_id
    WHERE page.tenant_id = chosen.tenant_id AND page.id = chosen.id
    RETURNING page.tenant_id, page.id, page.channel, page.size, page.attempts,
              chosen.lease_owner AS previous_owner, page.priority, page.run_id, page.held_for, page.expires_at,
              page.local_at,
              (SELECT rate_per_minute FROM campaign_run WHERE tenant_id = page.tenant_id AND id = page.run_id)
                  AS rate_per_minute,
              tenant.time_zone, tenant.quiet_hours, tenant.frequency_caps, tenant.send_limits, page.ready_at,
              page.trace
"""  # noqa: S608 - of constants
_HELD: Final = """
    SELECT page.id
    FROM unnest($1::uuid[], $2::uuid[], $3::bool[]) AS asked(tenant_id, id, limited)
    JOIN message_page AS page ON page.tenant_id = asked.tenant_id AND page.id = asked.id
    LEFT JOIN campaign_run AS run ON run.tenant_id = page.tenant_id AND run.id = page.run_id
    WHERE page.held_for IS NOT NULL OR NOT asked.limited AND run.rate_per_minute IS NOT NULL
"""
_ADOPT: Final = text("""
    UPDATE message_page SET lease_owner = :owner, leased_until = now() + :lease
    WHERE tenant_id = :tenant AND id = :id AND lease_owner = :previous AND finished_at IS NULL
    RETURNING id
""")
_SHORTEN: Final = text("""
    UPDATE message_page SET leased_until = now() + :pause
    WHERE tenant_id = :tenant AND id = :id AND finished_at IS NULL
""")
_RENEW: Final = text("""
    UPDATE message_page SET leased_until = now() + :lease
    WHERE lease_owner = :owner AND finished_at IS NULL AND id = ANY(:ids)
    RETURNING id
""")
_EXPIRE: Final = text("""
    UPDATE message_page SET leased_until = now()
    WHERE finished_at IS NULL AND split_part(lease_owner, ':', 2) = ANY(:journals)
    RETURNING split_part(lease_owner, ':', 2)
""")


async def claim(
    database: Database,
    *,
    owner: str,
    channels: Sequence[str],
    limit: int,
    lease: timedelta,
    blocked: Sequence[str] = (),
) -> list[ClaimedPage]:
    """Lease up to `limit` pages that are ready, but none of the streams `blocked`.

    The most urgent come first; among equals tenants take turns.
    """
    async with database.hot_system() as connection:
        rows = await connection.fetch(_CLAIM, lease, owner, list(channels), limit, list(blocked))
    found = sorted(rows, key=lambda row: (row["priority"], row["ready_at"], row["id"]))
    return [_claimed(row) for row in found]


def _claimed(row: Mapping[str, Any]) -> ClaimedPage:
    values = {name: value for name, value in row.items() if name != "ready_at"}
    for name in ("quiet_hours", "frequency_caps", "send_limits"):
        values[name] = values[name] and json.loads(values[name])
    return ClaimedPage(**values)


async def held(database: Database, claimed: Sequence[ClaimedPage]) -> set[UUID]:
    """Return which of these pages may not go on as they were claimed: held since, or under a rate that is new."""
    values = (
        [page.tenant_id for page in claimed],
        [page.id for page in claimed],
        [page.rate_per_minute is not None for page in claimed],
    )
    async with database.hot_system() as connection:
        return {row["id"] for row in await connection.fetch(_HELD, *values)}


async def renew(database: Database, *, owner: str, page_ids: Sequence[UUID], lease: timedelta) -> set[UUID]:
    """Prolong the leases of these pages; return those that are still held."""
    async with database.system() as session:
        rows = await session.scalars(_RENEW, {"owner": owner, "ids": list(page_ids), "lease": lease})
        return set(rows.all())


async def adopt(database: Database, page: ClaimedPage, *, owner: str, lease: timedelta) -> bool:
    """Take a page over from its former holder, whose results are recorded; False when another sender did."""
    values = {
        "tenant": page.tenant_id,
        "id": page.id,
        "owner": owner,
        "previous": page.previous_owner,
        "lease": lease,
    }
    async with database.system() as session:
        return await session.scalar(_ADOPT, values) is not None


async def shorten(database: Database, page: ClaimedPage, pause: timedelta) -> None:
    """Have a page that this sender could not work on claimed again after `pause`; it stays under its holder's name."""
    async with database.system() as session:
        await session.execute(_SHORTEN, {"tenant": page.tenant_id, "id": page.id, "pause": pause})


async def expire(database: Database, journals: Sequence[str]) -> set[str]:
    """End the leases of senders known to be dead at once; return the journals of those that held any page."""
    async with database.system() as session:
        return set((await session.scalars(_EXPIRE, {"journals": list(journals)})).all())
