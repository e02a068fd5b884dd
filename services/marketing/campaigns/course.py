"""The course of a run: what is to be done next about it, read from the store alone, so that it survives everything."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import DateTime, case, exists, func, literal, select

from contracts.campaigns import Next, Outlook
from contracts.events import CAMPAIGN_FINISHED, CAMPAIGN_STARTED
from core.actor import SYSTEM
from core.database import TenantSession
from core.errors import PlatformError
from core.logging import get_logger
from models import Campaign, CampaignRun, Message, MessagePage
from services.marketing import holding
from services.marketing.campaigns import control, definitions, planning, readiness, runs
from services.marketing.campaigns.runs import Progress

log = get_logger(__name__)

SOON: Final = timedelta(seconds=30)
"""What goes within this is waited for by looking, later things by a timer."""
UNSEEN: Final = timedelta(hours=1)
"""Held pages are looked at so often without being told."""
STRAY: Final = timedelta(minutes=1)


async def look(session: TenantSession, run_id: UUID, *, now: datetime | None = None) -> Outlook:
    """Return what is to be done next about a run; begins it when it is due, and finishes it when nothing is left."""
    now = now or datetime.now(UTC)
    run = await session.get(CampaignRun, (session.tenant_id, run_id), populate_existing=True)
    if run is None:
        return Outlook(next="done")
    # whoever holds a run holds its campaign before: so no two wait for one another
    campaign = await definitions.get(session, run.campaign_id, lock=True)
    await session.refresh(run, with_for_update=True)
    if run.status in runs.ENDED:
        return Outlook(next="done", status=run.status)
    if run.status == "paused":
        return await _outlook(session, run, "wait")
    if run.status == "scheduled":
        before = await _before(session, campaign, run, now)
        if before is not None:
            return before
    return await _running(session, run, now)


async def _before(session: TenantSession, campaign: Campaign, run: CampaignRun, now: datetime) -> Outlook | None:
    """Return what is to be done before a run begins; None once it has begun."""
    schedule: Mapping[str, Any] = run.plan["schedule"] or {}
    if run.frozen_at is None and schedule.get("freeze") == "schedule":
        return await _outlook(session, run, "freeze")
    if now < run.due_at:
        return await _outlook(session, run, "wait", run.due_at)
    latest = run.due_at + planning.lateness(run.plan)
    if now > latest:
        await holding.cancel(session, run.id)
        await _end(session, run, "late", reason=f"could not begin by {latest.isoformat(timespec='minutes')}")
        return Outlook(next="done", status=run.status)
    run.status, run.started_at = "running", now
    await session.flush()
    await control.settle(session, campaign.id)
    await definitions.log(session, campaign, "campaign.started", {"occurrence": (None, run.occurrence)}, by=SYSTEM)
    await control.tell(session, campaign, CAMPAIGN_STARTED, run)
    return None


async def _running(session: TenantSession, run: CampaignRun, now: datetime) -> Outlook:
    if run.frozen_at is None:
        return await _outlook(session, run, "freeze")
    testing = await _testing(session, run, now)
    if testing is not None:
        return testing
    progress = await runs.progress(session, run.id)
    if progress.waiting:
        later = now + UNSEEN if progress.next_at is None else progress.next_at
        return _shown(run, progress, "wait", later) if later > now + SOON else _shown(run, progress, "watch")
    if await _unsent(session, run):
        # its page says that it is done with: never finished like that, whatever the cause
        log.error("campaign.stray_messages", run=str(run.id))
        return _shown(run, progress, "wait", now + STRAY)
    await _end(session, run, "finished")
    return _shown(run, progress, "done")


async def _testing(session: TenantSession, run: CampaignRun, now: datetime) -> Outlook | None:
    """Return what is to be done about a run's test; None where it has none, or it is over."""
    test: Mapping[str, Any] | None = run.plan["test"]
    if test is None:
        return None
    if run.winner is not None:
        return await _outlook(session, run, "release") if await _waits_for_winner(session, run.id) else None
    if run.result is not None:
        return await _outlook(session, run, "wait")  # somebody is to choose
    at = await _sampled_at(session, run, now) + timedelta(hours=test["wait_hours"])
    return await _outlook(session, run, "wait", at) if now < at else await _outlook(session, run, "decide")


async def _sampled_at(session: TenantSession, run: CampaignRun, now: datetime) -> datetime:
    """Return when the last of a test's sample was sent, or will be at the earliest: zones and rates spread it out.

    Messages that a server put off for now are not waited for.
    """
    page = MessagePage
    tried = select(func.max(Message.sent_at)).where(Message.tenant_id == session.tenant_id, Message.page_id == page.id)
    sent = case(
        (page.finished_at.is_not(None), page.finished_at),
        (page.attempts == 0, func.greatest(page.ready_at, literal(now, DateTime(timezone=True)))),
        else_=func.coalesce(tried.scalar_subquery(), literal(now, DateTime(timezone=True))),
    )
    last = select(func.max(sent)).where(
        page.tenant_id == session.tenant_id, page.run_id == run.id, page.held_for.is_distinct_from("winner")
    )
    return await session.scalar(last) or run.started_at or run.due_at


async def begin_occurrence(
    session: TenantSession, campaign_id: UUID, due_at: datetime, *, verified_senders: bool = False
) -> UUID | None:
    """Begin the run of a recurring campaign that is due; None where it has it already, or is not to have it.

    With `verified_senders` it must come from a verified domain.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    schedule = campaign.schedule
    if campaign.status not in {"scheduled", "running"} or schedule is None or schedule.get("cron") is None:
        return None
    minute = due_at.astimezone(UTC).replace(second=0, microsecond=0)
    occurrence = minute.strftime("%Y-%m-%dT%H:%MZ")
    due = planning.due_of_occurrence(schedule, minute)
    try:
        plan = await readiness.plan_of(session, campaign, due, verified_senders=verified_senders)
    except PlatformError as error:
        failed = await runs.add(
            session, campaign, occurrence, due, {"variants": [], "test": None, "schedule": schedule}
        )
        if failed is not None:
            await _end(session, failed, "failed", reason=error.detail)
        return None
    run = await runs.add(session, campaign, occurrence, due, plan)
    return None if run is None else run.id


async def fail(session: TenantSession, run_id: UUID, error: str) -> None:
    """Note that a run cannot go on; what was queued and not sent is not sent."""
    run = await session.get(CampaignRun, (session.tenant_id, run_id), populate_existing=True)
    if run is None or run.status in runs.ENDED:
        return
    await definitions.get(session, run.campaign_id, lock=True)
    await session.refresh(run, with_for_update=True)
    await holding.cancel(session, run_id)
    await _end(session, run, "failed", reason=error)


async def _end(session: TenantSession, run: CampaignRun, status: str, *, reason: str | None = None) -> None:
    run.status, run.reason, run.finished_at = status, reason, datetime.now(UTC)
    await session.flush()
    campaign = await control.settle(session, run.campaign_id)
    await definitions.log(
        session,
        campaign,
        "campaign.finished",
        {"occurrence": (None, run.occurrence), "outcome": (None, status), "reason": (None, reason)},
        by=SYSTEM,
    )
    await control.tell(session, campaign, CAMPAIGN_FINISHED, run, outcome=status)


async def _waits_for_winner(session: TenantSession, run_id: UUID) -> bool:
    waits = exists().where(
        MessagePage.tenant_id == session.tenant_id,
        MessagePage.run_id == run_id,
        MessagePage.held_for == "winner",
        MessagePage.finished_at.is_(None),
    )
    return bool(await session.scalar(select(waits)))


async def _unsent(session: TenantSession, run: CampaignRun) -> bool:
    start = f"campaign:{run.campaign_id}:{run.occurrence}"
    unsent = exists().where(
        Message.tenant_id == session.tenant_id,
        Message.dedupe_key >= f"{start}:",
        Message.dedupe_key < f"{start};",
        Message.status == "queued",
    )
    return bool(await session.scalar(select(unsent)))


async def _outlook(session: TenantSession, run: CampaignRun, then: Next, at: datetime | None = None) -> Outlook:
    return _shown(run, await runs.progress(session, run.id), then, at)


def _shown(run: CampaignRun, progress: Progress, then: Next, at: datetime | None = None) -> Outlook:
    return Outlook(next=then, at=at, status=run.status, recipients=progress.queued, waiting=progress.waiting)


async def began_at(session: TenantSession, run_id: UUID) -> datetime:
    """Return when a run began, or is due."""
    run = await session.get(CampaignRun, (session.tenant_id, run_id))
    return datetime.now(UTC) if run is None else run.started_at or run.due_at
