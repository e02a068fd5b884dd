"""A campaign tried before it is sent: copies for a few people, and how many it would reach."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from core.ids import new_id
from models import Campaign, CampaignRun, Tenant
from services.marketing import eligibility, queueing, sending_rules, test_sends
from services.marketing.campaigns import audience, budget, definitions, freezing, planning, posts
from services.marketing.campaigns.planning import Due
from services.marketing.campaigns.posts import Post
from services.marketing.test_sends import Copy


@dataclass(frozen=True, slots=True)
class Estimate:
    """Whom a campaign would reach if it began now."""

    audience: int
    queued: int
    excluded: dict[str, int]
    """Number by reason."""


_PAGE: Final = freezing.PAGE


async def send_copies(  # noqa: PLR0913 - what a request may say, each by its name
    session: TenantSession,
    campaign_id: UUID,
    *,
    to: Sequence[str] | None,
    person_ids: Sequence[UUID] | None,
    as_person_id: UUID | None = None,
    entry: Mapping[str, Any] | None = None,
    locale: str | None = None,
    variant: int | None = None,
    by: Actor,
) -> list[Copy]:
    """Send copies of each variant, or of one, as its template stands; see `test_sends`.

    Raises:
        NotFoundError: no such campaign.
        InvalidError: naming the field that means nothing.
    """
    campaign = await definitions.get(session, campaign_id)
    if variant is not None and variant >= len(campaign.variants):
        raise InvalidError.of("variant", f"the campaign has {len(campaign.variants)}, counted from 0")
    recipients = await test_sends.recipients(session, campaign.channel, to=to, person_ids=person_ids)
    versions = await planning.template_versions(session, campaign.channel, campaign.variants)
    several = len(versions) > 1
    chosen = [
        (number if several else None, version)
        for number, version in enumerate(versions)
        if variant is None or number == variant
    ]
    copies = await test_sends.send(
        session, campaign.channel, chosen, recipients, as_person_id=as_person_id, entry=entry, locale=locale
    )
    changes = {"recipients": (None, len(recipients)), "variant": (None, variant)}
    await definitions.log(session, campaign, "campaign.tested", changes, by=by)
    return copies


async def preview_post(session: TenantSession, campaign_id: UUID, *, by: Actor) -> Post | None:
    """Return what a campaign of posts would post; None where it is of another channel.

    Raises:
        NotFoundError: no such campaign.
        InvalidError: its template is gone, or cannot be rendered.
    """
    campaign = await definitions.get(session, campaign_id)
    if campaign.channel != posts.CHANNEL:
        return None
    [version] = await planning.template_versions(session, campaign.channel, campaign.variants)
    post = await posts.preview(session, campaign, version)
    await definitions.log(session, campaign, "campaign.tested", {"recipients": (None, 0)}, by=by)
    return post


async def estimate(session: TenantSession, campaign_id: UUID) -> Estimate:
    """Return whom a campaign would reach if it began now: decided as for sending, page by page; nothing is written.

    Raises:
        NotFoundError: no such campaign.
        InvalidError: a template or a segment is gone.
        ConflictError: a segment was not computed by its rules yet.
    """
    campaign = await definitions.get(session, campaign_id)
    await planning.check_segments(session, campaign.audience, computed=True, lock=False)
    run = await _imagined(session, campaign)
    if campaign.channel == posts.CHANNEL:
        left = await budget.left(session, campaign, run)
        return Estimate(1, 1, {}) if left is None or left > 0 else Estimate(1, 0, {"budget": 1})
    versions = await planning.template_versions(session, campaign.channel, campaign.variants, lock=False)
    rules = await sending_rules.of(session, channel=campaign.channel, purpose=versions[0].purpose, run_id=None)
    urgency = queueing.TRANSACTIONAL if versions[0].purpose == "transactional" else queueing.BULK
    zone = await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id)) or "UTC"
    counts, after, size = Counter[str | None](), freezing.FIRST, _PAGE
    while size == _PAGE:
        found = await audience.until(session, campaign.audience, after=after, size=_PAGE)
        if found is None:
            break
        upto, size = found
        source = freezing.source(session.tenant_id, run, after=after, upto=upto, zone=zone).cte("source")
        people = eligibility.people_of(session.tenant_id, source, campaign.channel, versions[0], rules)
        judged = eligibility.judged(session.tenant_id, people, rules, campaign.channel, urgency)
        rows = await session.execute(select(judged.c.reason, func.count()).group_by(judged.c.reason))
        for reason, number in rows:
            counts[reason] += number
        run.audience += size
        after = upto
    queued = counts.pop(None, 0)
    limit = await budget.left(session, campaign, run)
    if limit is not None and queued > limit:
        counts["budget"] += queued - limit
        queued = limit
    return Estimate(run.audience, queued, {reason: number for reason, number in counts.items() if reason is not None})


async def _imagined(session: TenantSession, campaign: Campaign) -> CampaignRun:
    """Return the run that would begin now; it is not stored."""
    now = datetime.now(UTC)
    due, schedule = Due(now), campaign.schedule
    if schedule is not None and schedule["time_zone"] == "recipient":
        at = schedule.get("at")
        due = planning.due_of_occurrence(schedule, now)
        if at is not None:
            due = Due(now, datetime.fromisoformat(at).replace(tzinfo=None))
    return CampaignRun(
        tenant_id=session.tenant_id,
        id=new_id(),
        campaign_id=campaign.id,
        occurrence="estimate",
        plan=await planning.plan_of(session, campaign, due, lock=False),
        due_at=now,
        started_at=now,
        audience=0,
    )
