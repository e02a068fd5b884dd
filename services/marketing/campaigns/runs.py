"""Runs of campaigns: begun once an occurrence, looked at, and ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on, insert

from contracts.campaigns import WAKE, WORKFLOW, CampaignInput
from core.database import TenantSession
from core.ids import new_id
from models import Campaign, CampaignRun, MessagePage
from services.marketing.campaigns.planning import Due
from services.shared import starts

ENDED: Final = ("finished", "cancelled", "late", "failed")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    queued: int
    """Recipients on pages."""
    waiting: int
    """Of them, on pages that are not done with."""
    held: int
    """Of those, on pages that wait for a winner or a pause to end."""
    next_at: datetime | None
    """When the next page may go that is not held."""


async def add(
    session: TenantSession, campaign: Campaign, occurrence: str, due: Due, plan: dict[str, Any]
) -> CampaignRun | None:
    """Add the run of an occurrence, and owe its workflow; None where there is one already."""
    run = await session.scalar(
        insert(CampaignRun)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            campaign_id=campaign.id,
            occurrence=occurrence,
            plan=plan,
            due_at=due.at,
            rate_per_minute=campaign.rate_per_minute,
        )
        .on_conflict_do_nothing(index_elements=[CampaignRun.tenant_id, CampaignRun.campaign_id, CampaignRun.occurrence])
        .returning(CampaignRun)
    )
    if run is not None:
        await wake(session, run)
    return run


async def wake(session: TenantSession, run: CampaignRun) -> None:
    """Have the run's workflow started, or told to look again where it waits."""
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=run.id,
        input=CampaignInput(tenant_id=session.tenant_id, campaign_id=run.campaign_id, run_id=run.id),
        domain=starts.MARKETING,
        signal=WAKE,
    )


async def open_runs(session: TenantSession, campaign_id: UUID) -> Sequence[CampaignRun]:
    """Return the runs that have not ended, oldest first, held until the transaction ends."""
    found = await session.scalars(
        select(CampaignRun)
        .where(
            CampaignRun.tenant_id == session.tenant_id,
            CampaignRun.campaign_id == campaign_id,
            CampaignRun.status.not_in(ENDED),
        )
        .order_by(CampaignRun.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return found.all()


async def last(session: TenantSession, campaign_ids: Sequence[UUID]) -> dict[UUID, CampaignRun]:
    """Return by campaign its newest run."""
    found = await session.scalars(
        select(CampaignRun)
        .where(CampaignRun.tenant_id == session.tenant_id, CampaignRun.campaign_id.in_(campaign_ids))
        .ext(distinct_on(CampaignRun.campaign_id))
        .order_by(CampaignRun.campaign_id, CampaignRun.id.desc())
    )
    return {run.campaign_id: run for run in found}


async def page(session: TenantSession, campaign_id: UUID, *, limit: int, before: UUID | None) -> Sequence[CampaignRun]:
    """Return up to `limit` runs of a campaign, newest first, those begun before `before` only."""
    query = select(CampaignRun).where(
        CampaignRun.tenant_id == session.tenant_id, CampaignRun.campaign_id == campaign_id
    )
    if before is not None:
        query = query.where(CampaignRun.id < before)
    return (await session.scalars(query.order_by(CampaignRun.id.desc()).limit(limit))).all()


async def progress(session: TenantSession, run_id: UUID) -> Progress:
    """Return how far a run has come, by its pages."""
    waiting = MessagePage.finished_at.is_(None)
    held = waiting & MessagePage.held_for.is_not(None)
    row = (
        await session.execute(
            select(
                func.coalesce(func.sum(MessagePage.size), 0),
                func.coalesce(func.sum(MessagePage.size).filter(waiting), 0),
                func.coalesce(func.sum(MessagePage.size).filter(held), 0),
                func.min(MessagePage.ready_at).filter(waiting, MessagePage.held_for.is_(None)),
            ).where(MessagePage.tenant_id == session.tenant_id, MessagePage.run_id == run_id)
        )
    ).one()
    return Progress(*row)
