"""The report of a campaign: where each recipient stands, what they did, what it brought and cost.

`audience` = `excluded` + `queued` + `sent` + `failed` + `in_doubt`, always: each message is in one of them.
`sent` is all that a server took, whatever became of it; `delivered` those of it that did not come back. Opens and
clicks are of people, once a message; what machines do is `machine_opened` and `machine_clicked`, and in nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select, text

from core.database import TenantSession
from core.errors import NotFoundError
from models import Campaign, CampaignRun, Tenant
from services.marketing.campaigns import budget, definitions
from services.marketing.outcomes import lift
from services.marketing.outcomes.lift import Lift

_COUNT: Final = text("""
    SELECT m.variant, m.status, CASE WHEN m.status = 'excluded' THEN m.reason END AS reason,
           count(*) AS messages,
           count(*) FILTER (WHERE m.status = 'queued' AND m.reason IS NOT NULL) AS put_off,
           count(*) FILTER (WHERE m.opens > 0) AS opened,
           count(*) FILTER (WHERE m.clicks > 0) AS clicked,
           count(*) FILTER (WHERE m.machine_opens > 0) AS machine_opened,
           count(*) FILTER (WHERE m.machine_clicks > 0) AS machine_clicked,
           count(*) FILTER (WHERE m.unsubscribed_at IS NOT NULL) AS unsubscribed
    FROM message m
    WHERE m.tenant_id = :tenant AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
    GROUP BY 1, 2, 3
""")
_BROUGHT: Final = text("""
    SELECT m.variant, c.currency, count(*) AS orders, sum(c.amount_minor)::bigint AS amount_minor
    FROM conversion c JOIN message m ON m.tenant_id = c.tenant_id AND m.id = c.message_id
    WHERE c.tenant_id = :tenant AND m.tenant_id = :tenant AND c.campaign_id = :campaign
      AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
    GROUP BY 1, 2
""")


MOST_LINKS: Final = 100
"""Those followed by the most people; a report has no more."""
_LINKS: Final = text(f"""
    SELECT c.url, count(DISTINCT coalesce(c.person_id, c.message_id)) FILTER (WHERE c.clicks > 0) AS people,
           coalesce(sum(c.clicks) FILTER (WHERE c.clicks > 0), 0)::bigint AS clicks,
           sum(c.machine_clicks)::bigint AS machine_clicks
    FROM message m JOIN message_click c ON c.tenant_id = m.tenant_id AND c.message_id = m.id
    WHERE c.tenant_id = :tenant AND m.tenant_id = :tenant AND m.dedupe_key >= :first AND m.dedupe_key < :beyond
    GROUP BY c.url
    ORDER BY people DESC, clicks DESC, machine_clicks DESC, c.url
    LIMIT {MOST_LINKS}
""")  # noqa: S608 - the number is a constant of ours

RATES: Final = {
    "delivered": ("delivered", "sent"),
    "opened": ("opened", "delivered"),
    "clicked": ("clicked", "delivered"),
    "click_to_open": ("clicked", "opened"),
    "unsubscribed": ("unsubscribed", "delivered"),
    "bounced": ("bounced", "sent"),
    "complained": ("complained", "delivered"),
}
"""What is counted of each rate, and of what it is a share."""


@dataclass(slots=True)
class Figures:
    """Counts of messages, and what they brought in the smallest unit by currency."""

    audience: int = 0
    excluded: Counter[str] = field(default_factory=Counter[str])
    queued: int = 0
    put_off: int = 0
    sent: int = 0
    delivered: int = 0
    opened: int = 0
    clicked: int = 0
    machine_opened: int = 0
    machine_clicked: int = 0
    unsubscribed: int = 0
    bounced: int = 0
    complained: int = 0
    failed: int = 0
    in_doubt: int = 0
    orders: int = 0
    brought: Counter[str] = field(default_factory=Counter[str])

    def add(self, row: Row[Any]) -> None:
        """Count messages of one status."""
        count: int = row.messages
        self.audience += count
        self.put_off += row.put_off
        self.opened += row.opened
        self.clicked += row.clicked
        self.machine_opened += row.machine_opened
        self.machine_clicked += row.machine_clicked
        self.unsubscribed += row.unsubscribed
        match row.status:
            case "excluded":
                self.excluded[row.reason or "other"] += count
            case "queued":
                self.queued += count
            case "failed":
                self.failed += count
            case "in_doubt":
                self.in_doubt += count
            case status:
                self.sent += count
                self.bounced += count if status == "bounced" else 0
                self.complained += count if status == "complained" else 0
                self.delivered += count if status != "bounced" else 0

    def rates(self) -> dict[str, float | None]:
        """Return shares by their names, each of what `RATES` says; None of nothing."""
        counts = {name: getattr(self, name) for pair in RATES.values() for name in pair}
        return {name: counts[part] / counts[whole] if counts[whole] else None for name, (part, whole) in RATES.items()}


@dataclass(frozen=True, slots=True)
class Link:
    """How often what leads to one address was followed."""

    url: str | None
    """Null: of people erased since."""
    people: int
    clicks: int
    machine_clicks: int


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a campaign, or of one run of it."""

    campaign: Campaign
    runs: Sequence[CampaignRun]
    total: Figures
    variants: Sequence[Figures]
    currency: str
    """Of its costs, or else the tenant's."""
    spend_minor: int
    lift: Lift | None
    """Against its holdout, of the only run that this is about; None without one."""
    links: Sequence[Link]
    """`MOST_LINKS` at most."""


async def of(session: TenantSession, campaign_id: UUID, *, occurrence: str | None = None) -> Report:
    """Return the report of a campaign, or of one occurrence of it, as it stands.

    Raises:
        NotFoundError: no such campaign, or it has no such run.
    """
    campaign = await definitions.get(session, campaign_id)
    begun = select(CampaignRun).where(
        CampaignRun.tenant_id == session.tenant_id, CampaignRun.campaign_id == campaign_id
    )
    if occurrence is not None:
        begun = begun.where(CampaignRun.occurrence == occurrence)
    runs = (await session.scalars(begun.order_by(CampaignRun.id))).all()
    if occurrence is not None and not runs:
        raise NotFoundError("The campaign has no such run.")
    start = f"campaign:{campaign_id}" if occurrence is None else f"campaign:{campaign_id}:{occurrence}"
    keys = {"tenant": session.tenant_id, "first": f"{start}:", "beyond": f"{start};"}
    total, variants = Figures(), [Figures() for _ in campaign.variants]
    alone = len(variants) == 1
    for row in await session.execute(_COUNT, keys):
        total.add(row)
        number = 0 if alone else row.variant
        if number is not None and number < len(variants):
            variants[number].add(row)
    for row in await session.execute(_BROUGHT, keys | {"campaign": campaign_id}):
        number = 0 if alone else row.variant
        for figures in (total, *([] if number is None or number >= len(variants) else [variants[number]])):
            figures.orders += row.orders
            figures.brought[row.currency] += row.amount_minor
    base = await session.scalar(select(Tenant.base_currency).where(Tenant.id == session.tenant_id))
    currency = campaign.currency or base or "EUR"
    started = sum(1 for run in runs if run.started_at is not None)
    spend = budget.spent(campaign, started, total.sent, currency)
    beyond = await lift.of(session, runs[0], campaign.channel, currency) if len(runs) == 1 else None
    links = [Link(row.url, row.people, row.clicks, row.machine_clicks) for row in await session.execute(_LINKS, keys)]
    return Report(campaign, runs, total, variants, currency, spend, beyond, links)
