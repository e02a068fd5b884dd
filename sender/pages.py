"""Pages of messages: leased, kept, given back. A page is claimed whole, so a message itself is written once.

Leases are the one thing a sender does across tenants (as tl_system); what is in a page it reads as its tenant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
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
    created_at: datetime
    previous_owner: str | None
    """Who held it and did not give it back: what it was about must be found out first."""


# A page whose holder did not give it back stays under its name until what it did is recorded (`adopt`): should this
# sender die in between, the next one still finds the right journal.
_CLAIM: Final = """
    UPDATE message_page AS page SET leased_until = now() + $1, lease_owner = coalesce(page.lease_owner, $2)
    FROM (
        SELECT tenant_id, id, lease_owner FROM message_page
        WHERE finished_at IS NULL AND ready_at <= now() AND (leased_until IS NULL OR leased_until < now())
          AND channel = ANY($3)
        ORDER BY priority, id LIMIT $4
        FOR UPDATE SKIP LOCKED
    ) AS ready
    WHERE page.tenant_id = ready.tenant_id AND page.id = ready.id
    RETURNING page.tenant_id, page.id, page.channel, page.size, page.attempts, page.created_at,
              ready.lease_owner AS previous_owner, page.priority
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
    database: Database, *, owner: str, channels: Sequence[str], limit: int, lease: timedelta
) -> list[ClaimedPage]:
    """Lease up to `limit` pages that are ready, the most urgent first."""
    async with database.hot_system() as connection:
        rows = await connection.fetch(_CLAIM, lease, owner, list(channels), limit)
    found = sorted(rows, key=lambda row: (row["priority"], row["id"]))
    return [ClaimedPage(*tuple(row)[:-1]) for row in found]


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
