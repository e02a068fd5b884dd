"""Rate limits, shared by all senders of a deployment: who sends takes from buckets in the store first.

A limit of `n` a minute lets a burst of `n / 60` go at once (one at least) and the rest evenly: in any `w` seconds at
most the burst and `n * w / 60` messages are begun. A rate counts as it stands when it is taken from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from core.database import Database
from core.settings import Settings

_TAKE: Final = "SELECT granted, again_at FROM tl_take($1::text[], $2::int[], $3::int[])"
# The run's rate is read with the taking, so that a change of it counts at once.
_TAKE_OF_RUN: Final = """
    SELECT taken.granted, taken.again_at
    FROM (SELECT rate_per_minute FROM campaign_run WHERE tenant_id = $4 AND id = $5) AS run
    CROSS JOIN LATERAL tl_take(
        CASE WHEN run.rate_per_minute IS NULL THEN $1::text[] ELSE $1::text[] || $6::text END,
        CASE WHEN run.rate_per_minute IS NULL THEN $2::int[] ELSE $2::int[] || run.rate_per_minute END,
        CASE WHEN run.rate_per_minute IS NULL THEN $3::int[] ELSE $3::int[] || NULL::int END) AS taken
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many messages a minute, counted under a key."""

    key: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class Part:
    """Messages that share a limit of their own beside those of all: of one recipient domain, mostly."""

    number: int
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The run of a campaign whose rate counts too."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class Taken:
    """How many may go now."""

    granted: list[int]
    """Of each part."""
    again_at: datetime | None
    """When it is worth asking for the others; null where all may go."""


def of_provider(settings: Settings, channel: str) -> Limit | None:
    """Return the limit of the deployment's own provider of a channel."""
    if channel == "email" and settings.email_rate_per_minute is not None:
        return Limit("provider:smtp", settings.email_rate_per_minute)
    return None


def of_account(account_id: UUID, rate_per_minute: int | None) -> Limit | None:
    """Return the limit of a tenant's own account."""
    return None if rate_per_minute is None else Limit(f"account:{account_id}", rate_per_minute)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant's `send_limits` say of one channel."""

    channel: Limit | None
    domains: Mapping[str, Limit]

    @classmethod
    def of(cls, tenant_id: UUID, channel: str, stated: Sequence[Mapping[str, Any]]) -> "TenantLimits":
        """Read them; of two for the same the stricter holds."""
        everywhere: Limit | None = None
        domains: dict[str, Limit] = {}
        # The strictest is read last.
        for each in sorted(stated, key=lambda each: -each["per_minute"]):
            if each["channel"] != channel:
                continue
            domain: str | None = each.get("domain")
            if domain is None:
                everywhere = Limit(f"tenant:{tenant_id}:{channel}", each["per_minute"])
            else:
                domains[domain] = Limit(f"domain:{tenant_id}:{domain}", each["per_minute"])
        return cls(everywhere, domains)


async def take(database: Database, shared: Sequence[Limit], parts: Sequence[Part], run: Run | None = None) -> Taken:
    """Take as many as may go now of each part, the first parts first; one round trip, and no limit is overdrawn."""
    own = [part.limit for part in parts]
    keys = [*(limit.key for limit in shared), *(limit and limit.key for limit in own)]
    rates = [*(limit.per_minute for limit in shared), *(limit and limit.per_minute for limit in own)]
    wanted = [*(None for _ in shared), *(part.number for part in parts)]
    async with database.hot_system() as connection:
        if run is None:
            row = await connection.fetchrow(_TAKE, keys, rates, wanted)
        else:
            row = await connection.fetchrow(_TAKE_OF_RUN, keys, rates, wanted, run.tenant_id, run.id, f"run:{run.id}")
    if row is None:
        return Taken([part.number for part in parts], None)  # the run is gone, and its messages with no rate to keep
    return Taken(row["granted"][len(shared) : len(wanted)], row["again_at"])
