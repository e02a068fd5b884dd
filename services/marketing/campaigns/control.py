"""Control over campaigns: each verb changes what is to happen at once, in the store, and tells the workflow.

None does anything twice: a second click, or a request that is sent again, finds it done.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func

from contracts.campaigns import OCCURRENCE_WORKFLOW, OccurrenceInput
from contracts.events import (
    CAMPAIGN_CANCELLED,
    CAMPAIGN_PAUSED,
    CAMPAIGN_RESUMED,
    CAMPAIGN_SCHEDULED,
)
from core.actor import SYSTEM, Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError
from models import Campaign, CampaignRun
from services.events.publish import NewEvent, publish
from services.marketing import holding
from services.marketing.campaigns import definitions, planning, readiness, runs
from services.marketing.campaigns.planning import Due
from services.shared import schedules, starts

_FROZEN: Final = frozenset({"audience", "variants", "test", "schedule", "batches", "lateness_minutes"})
"""What is in the rows of the recipients."""
_PUBLIC: Final = {"test": "ab"}


async def send(session: TenantSession, campaign_id: UUID, *, verified_senders: bool = False, by: Actor) -> Campaign:
    """Have a draft sent now; with `verified_senders` it must come from a verified domain.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is scheduled, recurring or over, or a segment was not computed yet.
        InvalidError: a template or a segment is gone, or a template has errors.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status in {"running", "paused", "finished"}:
        return campaign  # asked twice
    if campaign.status != "draft":
        raise ConflictError(f"The campaign is {campaign.status}; only a draft can be sent.")
    if campaign.schedule is not None:
        raise ConflictError("The campaign has a schedule: take it away to send it now, or have it scheduled.")
    await planning.check_segments(session, campaign.audience, computed=True)
    due = Due(datetime.now(UTC))
    plan = await readiness.plan_of(session, campaign, due, verified_senders=verified_senders)
    await runs.add(session, campaign, planning.ONCE, due, plan)
    await _turn(session, campaign, "running", "campaign.sent", by=by)
    return campaign


async def schedule(
    session: TenantSession,
    campaign_id: UUID,
    wanted: Mapping[str, Any] | None = None,
    *,
    verified_senders: bool = False,
    by: Actor,
) -> Campaign:
    """Have a draft sent at its time, or whenever its cron expression comes; `wanted` replaces its schedule.

    With `verified_senders` it must come from a verified domain.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is running or over.
        InvalidError: it has no schedule, or one that means nothing or is past; or a template has errors.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status == "scheduled" and wanted in (None, campaign.schedule):
        return campaign  # asked twice
    if campaign.status not in definitions.CHANGEABLE:
        raise ConflictError(f"The campaign is {campaign.status}; only a draft can be scheduled.")
    if wanted is not None:
        fields = {"schedule": dict(wanted)}
        await update(session, campaign_id, fields, revision=None, verified_senders=verified_senders, by=by)
        if campaign.status == "scheduled":
            return campaign
    if campaign.schedule is None:
        raise InvalidError.of("schedule", "is missing: say when")
    await _put(session, campaign, verified_senders=verified_senders)
    await _turn(session, campaign, "scheduled", "campaign.scheduled", by=by)
    await _tell(session, campaign, CAMPAIGN_SCHEDULED)
    return campaign


async def update(
    session: TenantSession,
    campaign_id: UUID,
    fields: Mapping[str, Any],
    *,
    revision: int | None,
    verified_senders: bool = False,
    by: Actor,
) -> Campaign:
    """Change a draft or what is scheduled; of one that is being sent the name, budget and rate, which counts at once.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is at another `revision`, or a field is already decided.
        InvalidError: naming the field that means nothing.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    open_runs = await runs.open_runs(session, campaign_id)
    began = [run for run in open_runs if run.position is not None or run.frozen_at is not None]
    if campaign.status in definitions.CHANGEABLE and began and not _recurring(campaign):
        # frozen when it was scheduled
        differing = {name for name in _FROZEN & fields.keys() if getattr(campaign, name) != fields[name]}
        definitions.refuse_decided(campaign, sorted(_PUBLIC.get(name, name) for name in differing))
    before = campaign.schedule
    changed = await definitions.change(session, campaign, fields, revision=revision, by=by)
    if "rate_per_minute" in changed:
        for run in open_runs:
            run.rate_per_minute = campaign.rate_per_minute
    if campaign.status == "scheduled" and changed - {"rate_per_minute"}:
        if campaign.schedule is None:
            raise InvalidError.of("schedule", "cannot be taken from a campaign that is scheduled; cancel it")
        if _recurring(campaign) != (before is not None and before.get("cron") is not None):
            raise InvalidError.of("schedule", "cannot turn from once to recurring, or back, while it is scheduled")
        await _put(session, campaign, open_runs, verified_senders=verified_senders)
    await session.flush()
    return campaign


async def pause(session: TenantSession, campaign_id: UUID, *, reason: str = "manual", by: Actor = SYSTEM) -> Campaign:
    """Hold whatever was not yet sent, at once; a recurring campaign does not begin meanwhile.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is a draft, or over.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status == "paused":
        return campaign
    if campaign.status not in {"scheduled", "running"}:
        raise ConflictError(f"The campaign is {campaign.status}; there is nothing to pause.")
    for run in await runs.open_runs(session, campaign_id):
        run.status, run.reason = "paused", reason
        await holding.pause(session, run.id)
        await runs.wake(session, run)
    await _turn(session, campaign, "paused", "campaign.paused", by=by)
    await _tell(session, campaign, CAMPAIGN_PAUSED, reason=reason)
    return campaign


async def resume(session: TenantSession, campaign_id: UUID, *, by: Actor) -> Campaign:
    """Let a campaign go on from where it was held; what fell due meanwhile goes at once.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is not paused.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status in {"running", "scheduled"}:
        return campaign
    if campaign.status != "paused":
        raise ConflictError(f"The campaign is {campaign.status}, not paused.")
    found = await runs.open_runs(session, campaign_id)
    for run in found:
        run.reason = None
        if run.started_at is None:
            run.status = "scheduled"
            # held by hand is not late
            run.due_at = max(run.due_at, datetime.now(UTC))
        else:
            run.status = "running"
        await holding.resume(session, run.id)
        await runs.wake(session, run)
    await session.flush()
    await _turn(session, campaign, _status(campaign, found), "campaign.resumed", by=by)
    await _tell(session, campaign, CAMPAIGN_RESUMED)
    return campaign


async def cancel(session: TenantSession, campaign_id: UUID, *, by: Actor) -> Campaign:
    """End a campaign for good: whoever was not sent to gets nothing.

    Raises:
        NotFoundError: no such campaign.
        ConflictError: it is a draft, or has finished.
    """
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status == "cancelled":
        return campaign
    if campaign.status in {"draft", "finished"}:
        raise ConflictError(f"The campaign is {campaign.status}; there is nothing to cancel.")
    await schedules.drop(session, entity_id=campaign.id)
    for run in await runs.open_runs(session, campaign_id):
        run.status = "cancelled"
        run.finished_at = func.now()
        await holding.cancel(session, run.id)
        await runs.wake(session, run)
    await _turn(session, campaign, "cancelled", "campaign.cancelled", by=by)
    await _tell(session, campaign, CAMPAIGN_CANCELLED)
    return campaign


async def settle(session: TenantSession, campaign_id: UUID) -> Campaign:
    """Bring a campaign's status in line with its runs, after one of them began or ended."""
    campaign = await definitions.get(session, campaign_id, lock=True)
    if campaign.status in {"cancelled", "paused"}:
        return campaign
    status = _status(campaign, await runs.open_runs(session, campaign_id))
    if status != campaign.status:
        campaign.status = status
        await session.flush()
    return campaign


async def tell(session: TenantSession, campaign: Campaign, event: str, run: CampaignRun, **more: object) -> None:
    """Publish what became of a run."""
    await _tell(session, campaign, event, run_id=str(run.id), occurrence=run.occurrence, **more)


def _status(campaign: Campaign, found: Sequence[CampaignRun]) -> str:
    now = datetime.now(UTC)
    if any(run.status == "running" or run.due_at <= now for run in found):
        return "running"
    if found or _recurring(campaign):
        return "scheduled"
    return "finished"


def _recurring(campaign: Campaign) -> bool:
    return campaign.schedule is not None and campaign.schedule.get("cron") is not None


async def _put(
    session: TenantSession, campaign: Campaign, open_runs: Sequence[CampaignRun] = (), *, verified_senders: bool
) -> None:
    """Have the campaign begin when its schedule says, or its runs that wait changed to what it says now."""
    wanted = campaign.schedule
    if wanted is None:
        return
    if wanted.get("cron") is not None:
        due = Due(datetime.now(UTC))
        await readiness.plan_of(session, campaign, due, verified_senders=verified_senders)  # refused now, not at night
        await schedules.keep(
            session,
            workflow=OCCURRENCE_WORKFLOW,
            entity_id=campaign.id,
            input=OccurrenceInput(tenant_id=session.tenant_id, campaign_id=campaign.id),
            cron=wanted["cron"],
            time_zone=await planning.zone_of(session, wanted),
            domain=starts.MARKETING,
        )
        return
    due = await planning.due_of(session, wanted, now=datetime.now(UTC))
    if wanted["freeze"] == "schedule":
        await planning.check_segments(session, campaign.audience, computed=True)
    plan = await readiness.plan_of(session, campaign, due, verified_senders=verified_senders)
    if await runs.add(session, campaign, planning.ONCE, due, plan) is not None:
        return
    for run in open_runs:
        if run.position is None and run.frozen_at is None:
            run.plan = plan
            run.due_at = due.at
            await runs.wake(session, run)


async def _turn(session: TenantSession, campaign: Campaign, status: str, verb: str, *, by: Actor) -> None:
    before, campaign.status = campaign.status, status
    await session.flush()
    await definitions.log(session, campaign, verb, {"status": (before, status)}, by=by)


async def _tell(session: TenantSession, campaign: Campaign, event: str, **more: object) -> None:
    said = {"campaign_id": str(campaign.id), "key": campaign.key, "name": campaign.name, **more}
    await publish(session, [NewEvent(event, campaign.id, subject_type="campaign", properties=said)])
