"""What a campaign costs, and for how many recipients its budget is enough."""

from typing import Final

from sqlalchemy import and_, func, or_, select

from core.currency import EXPONENTS
from core.database import TenantSession
from models import Campaign, CampaignRun, Message, MessagePage

_MICRO: Final = 1_000_000
_FREE: Final = ("excluded", "failed")


def spent(campaign: Campaign, runs: int, sent: int, currency: str) -> int:
    """Return in the smallest unit, rounded up, what runs cost: the fixed cost of each, and that of the messages."""
    parts = sent * campaign.message_cost_micros * 10 ** EXPONENTS[currency]
    return campaign.fixed_cost_minor * runs - (-parts // _MICRO)


def affordable(campaign: Campaign, runs: int) -> int | None:
    """Return for how many messages the budget is enough, of so many runs together; None: for any number."""
    if campaign.budget_minor is None or campaign.currency is None:
        return None
    left = campaign.budget_minor - campaign.fixed_cost_minor * runs
    if left < 0:
        return 0
    if not campaign.message_cost_micros:
        return None
    return left * _MICRO // (campaign.message_cost_micros * 10 ** EXPONENTS[campaign.currency])


async def left(session: TenantSession, campaign: Campaign, run: CampaignRun) -> int | None:
    """Return how many more recipients of a run that is being frozen may be queued; None: any number.

    Whoever is queued is counted as paid for, though they may turn out not to be sent to. The caller holds the campaign
    locked, so that two runs of it do not spend the same.
    """
    begun = select(func.count()).where(
        CampaignRun.tenant_id == session.tenant_id,
        CampaignRun.campaign_id == campaign.id,
        CampaignRun.id != run.id,
        CampaignRun.started_at.is_not(None),
    )
    total = affordable(campaign, 1 + (await session.scalar(begun) or 0)) if campaign.budget_minor is not None else None
    if total is None:
        return None
    own = select(func.coalesce(func.sum(MessagePage.size), 0)).where(
        MessagePage.tenant_id == session.tenant_id, MessagePage.run_id == run.id
    )
    # a run's keys are in one range, so that those of the others are in two
    start = f"campaign:{campaign.id}"
    key = Message.dedupe_key
    others = select(func.count()).where(
        Message.tenant_id == session.tenant_id,
        or_(
            and_(key >= f"{start}:", key < f"{start}:{run.occurrence}:"),
            and_(key >= f"{start}:{run.occurrence};", key < f"{start};"),
        ),
        Message.status.not_in(_FREE),
    )
    return max(0, total - (await session.scalar(own) or 0) - (await session.scalar(others) or 0))
