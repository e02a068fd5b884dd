"""What a campaign brought beyond what would have been bought anyway: recipients compared with its holdout.

Both were drawn by chance from those who could be sent to, so that what they bought from the run's start on differs by
the campaign and by chance alone. Compared is who was meant to get it, sent or not: leaving out those it failed to reach
would leave out a kind of people on one side only. The interval of the difference of buyers' shares is Newcombe's (see
`proportions`); that of the difference of what a person brought is Welch's (Biometrika 34, 1947, 28-35) with the normal
quantile, for samples are large.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import sqrt
from statistics import NormalDist
from typing import Any, Final

from sqlalchemy import bindparam, text
from sqlalchemy.types import DateTime

from core.database import TenantSession
from models import CampaignRun
from services.marketing.outcomes import attribution
from services.marketing.outcomes.proportions import Count, Difference, compare
from services.marketing.outcomes.testing import keys_of

METHOD: Final = "Newcombe's interval of the difference of two shares; Welch's of the difference of two means"

# One row a group: those meant to get it were put on a page, those held out were not.
_MEASURE: Final = text("""
    WITH bought AS MATERIALIZED (
        SELECT o.person_id, count(*) AS orders,
               coalesce(sum(o.total_minor - o.refunded_minor) FILTER (WHERE o.currency = :currency), 0)::bigint AS minor
        FROM commerce_order_facts o
        WHERE o.tenant_id = :tenant AND o.placed_at >= :since AND o.placed_at < :until
          AND o.total_minor > o.refunded_minor
        GROUP BY o.person_id
    )
    SELECT m.page_id IS NULL AS held, count(*) AS people, count(b.person_id) AS buyers,
           coalesce(sum(b.orders), 0)::bigint AS orders, coalesce(sum(b.minor), 0)::bigint AS minor,
           coalesce(sum(b.minor::double precision ^ 2), 0) AS squares
    FROM message m LEFT JOIN bought b ON b.person_id = m.person_id
    WHERE m.tenant_id = :tenant AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
      AND (m.page_id IS NOT NULL OR m.reason = 'holdout')
    GROUP BY 1
""").bindparams(
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)
_LAST: Final = text("""
    SELECT max(m.sent_at) FROM message m
    WHERE m.tenant_id = :tenant AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
""")


@dataclass(frozen=True, slots=True)
class Group:
    """What one of the two groups bought."""

    people: int = 0
    buyers: int = 0
    orders: int = 0
    minor: int = 0
    """In the smallest unit of the report's currency, without refunds."""
    squares: float = 0.0
    """Sum of the squares of what each person brought."""

    @property
    def mean(self) -> float:
        """What a person brought, in the smallest unit."""
        return self.minor / self.people if self.people else 0.0

    @property
    def variance(self) -> float:
        """Of the mean."""
        if self.people <= 1:
            return 0.0
        return max(0.0, self.squares - self.people * self.mean**2) / (self.people - 1) / self.people


@dataclass(frozen=True, slots=True)
class Lift:
    """Recipients and holdout, and how they differ."""

    since: datetime
    until: datetime
    """Orders placed from then until then count; it may lie ahead."""
    confidence: float
    treated: Group
    held_out: Group
    buyers: Difference
    """Of the share of buyers."""
    mean: float
    low: float
    high: float
    """Of what a person brought, in the smallest unit: the difference and its interval."""


async def of(session: TenantSession, run: CampaignRun, channel: str, currency: str) -> Lift | None:
    """Return the lift of a run as it stands; None where it has no holdout, or has not begun.

    Orders count from its start until the channel's hours of attribution after the last message was sent.
    """
    test: dict[str, Any] | None = run.plan.get("test")
    if test is None or not test["holdout"] or run.started_at is None:
        return None
    keys = {"tenant": session.tenant_id, **keys_of(run)}
    last: datetime | None = await session.scalar(_LAST, keys)
    hours = (await attribution.windows(session)).get(channel, 0)
    until = (last or datetime.now(UTC)) + timedelta(hours=hours)
    period = {"since": run.started_at, "until": until, "currency": currency}
    rows = (await session.execute(_MEASURE, keys | period)).all()
    groups = {row.held: Group(row.people, row.buyers, row.orders, row.minor, row.squares) for row in rows}
    return compared(
        groups.get(False, Group()),
        groups.get(True, Group()),
        since=run.started_at,
        until=until,
        confidence=1 - test["significance"],
    )


def compared(treated: Group, held_out: Group, *, since: datetime, until: datetime, confidence: float) -> Lift:
    """Return how two groups differ."""
    shares = compare(
        Count(treated.buyers, treated.people), Count(held_out.buyers, held_out.people), confidence=confidence
    )
    difference = treated.mean - held_out.mean
    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * sqrt(treated.variance + held_out.variance)
    return Lift(
        since, until, confidence, treated, held_out, shares, difference, difference - spread, difference + spread
    )
