"""Campaigns stop themselves where too much of what they sent comes back, or is called spam.

Shares are of a run's messages that a server took. Once somebody resumed a campaign, only what was sent after that
counts: they have seen the rest, and it must not stop the campaign again.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from contracts.events import BOUNCED, COMPLAINED
from core.actor import SYSTEM
from core.database import TenantSession
from core.errors import ConflictError
from models import Tenant
from models.identity import CHANNELS
from services.events.bus import Consumer, EventRow
from services.marketing.campaigns import control, definitions

DEFAULTS: Final[Mapping[str, float]] = {"complaints": 0.003, "bounces": 0.1, "minimum": 200}
"""Shares above which a campaign is paused, and messages sent below which a share says nothing."""

_COUNT: Final = text("""
    SELECT r.campaign_id, m.sent, m.complaints, m.bounces
    FROM campaign_run r
    CROSS JOIN LATERAL (
        SELECT max(a.at) AS at FROM activity a
        WHERE a.tenant_id = :tenant AND a.subject_type = 'campaign' AND a.subject_id = r.campaign_id
          AND a.type = 'campaign.resumed'
    ) AS resumed
    CROSS JOIN LATERAL (
        SELECT count(*) AS sent,
               count(*) FILTER (WHERE m.status = 'complained') AS complaints,
               count(*) FILTER (WHERE m.status = 'bounced') AS bounces
        FROM message m
        WHERE m.tenant_id = :tenant
          AND m.dedupe_key >= concat('campaign:', r.campaign_id, ':', r.occurrence, ':')
          AND m.dedupe_key < concat('campaign:', r.campaign_id, ':', r.occurrence, ';')
          AND m.status IN ('sent', 'delivered', 'bounced', 'complained')
          AND (resumed.at IS NULL OR m.sent_at > resumed.at)
    ) AS m
    WHERE r.tenant_id = :tenant AND r.campaign_id = ANY(:campaigns) AND r.status = 'running'
    ORDER BY r.campaign_id
""").bindparams(bindparam("campaigns", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True)
class Limits:
    """The shares above which a campaign is paused."""

    complaints: float
    bounces: float
    minimum: int

    def broken(self, *, sent: int, complaints: int, bounces: int) -> str | None:
        """Return which share is too high, the graver one first; None where none is or too few were sent to tell."""
        if sent < self.minimum:
            return None
        if complaints > self.complaints * sent:
            return "complaints"
        return "bounces" if bounces > self.bounces * sent else None


async def limits(session: TenantSession) -> Limits:
    """Return the shares at which this tenant's campaigns stop, its own where it has them."""
    own: Mapping[str, Any] | None = await session.scalar(select(Tenant.breaker).where(Tenant.id == session.tenant_id))
    found = {**DEFAULTS, **(own or {})}
    return Limits(found["complaints"], found["bounces"], int(found["minimum"]))


async def check(session: TenantSession, campaign_ids: Iterable[UUID]) -> set[UUID]:
    """Pause those of these campaigns of whose open run too much came back; return them."""
    allowed = await limits(session)
    paused = set[UUID]()
    for campaign_id in await _broken(session, sorted(set(campaign_ids)), allowed):
        await definitions.get(session, campaign_id, lock=True)
        # asked again: somebody may have resumed it meanwhile, and now nobody can
        reason = (await _broken(session, [campaign_id], allowed)).get(campaign_id)
        if reason is None:
            continue
        with suppress(ConflictError):  # it ended meanwhile
            await control.pause(session, campaign_id, reason=reason, by=SYSTEM)
            paused.add(campaign_id)
    return paused


async def _broken(session: TenantSession, campaign_ids: Sequence[UUID], allowed: Limits) -> dict[UUID, str]:
    if not campaign_ids:
        return {}
    found: dict[UUID, str] = {}
    for row in await session.execute(_COUNT, {"tenant": session.tenant_id, "campaigns": campaign_ids}):
        reason = allowed.broken(sent=row.sent, complaints=row.complaints, bounces=row.bounces)
        if reason is not None:
            found.setdefault(row.campaign_id, reason)
    return found


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Judge the campaigns of whose messages something came back: each once, however many did."""
    named = set[UUID]()
    for event in events:
        # a tenant's own events may say anything
        with suppress(ValueError):
            named.add(UUID(str(event.properties.get("campaign_id"))))
    await check(session, named)


CONSUMER: Final = Consumer(
    "campaign_breaker", handle, frozenset(channel + kind for channel in CHANNELS for kind in (BOUNCED, COMPLAINED))
)
