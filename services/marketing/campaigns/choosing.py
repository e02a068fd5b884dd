"""The end of a test: the variant for the rest is chosen, and what waited for it is released."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, case, cast, func, literal, select, update

from core.database import TenantSession
from core.wake import MESSAGE_CHANNEL
from models import CampaignRun, Message, MessagePage
from services.marketing.outcomes import testing

PAGES: Final = 40
"""Pages released in one transaction: 20,000 recipients."""


async def decide(session: TenantSession, run_id: UUID) -> None:
    """Choose the winner of a test whose wait is over, or note that somebody is to; nothing happens when that is so."""
    run = await _locked(session, run_id)
    if run is None or run.status != "running" or run.winner is not None or run.result is not None:
        return
    decision = await testing.decide(session, run)
    run.winner, run.result = decision.winner, decision.result
    await session.flush()


async def release(session: TenantSession, run_id: UUID) -> bool:
    """Let the next pages go that wait for the winner, with its text; whether these were all, or none may go now."""
    run = await _locked(session, run_id)
    if run is None or run.status != "running" or run.winner is None:
        return True
    pages = (
        await session.scalars(
            select(MessagePage.id)
            .where(
                MessagePage.tenant_id == session.tenant_id,
                MessagePage.run_id == run_id,
                MessagePage.held_for == "winner",
                MessagePage.finished_at.is_(None),
            )
            .limit(PAGES)
        )
    ).all()
    version = UUID(run.plan["variants"][run.winner]["template_version_id"])
    await session.execute(
        update(Message)
        .where(Message.tenant_id == session.tenant_id, Message.page_id.in_(pages), Message.status == "queued")
        .values(template_version_id=version, variant=run.winner)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(MessagePage)
        .where(MessagePage.tenant_id == session.tenant_id, MessagePage.id.in_(pages))
        .values(held_for=None, ready_at=_ready_at(run))
        .execution_options(synchronize_session=False)
    )
    session.wake_after_commit(MESSAGE_CHANNEL)
    return len(pages) < PAGES


def _ready_at(run: CampaignRun) -> ColumnElement[datetime]:
    """Return when a page goes that is let go now: batches begin anew, or what fell due meanwhile would go in one."""
    if run.plan["batches"] is None:
        return MessagePage.ready_at.expression
    waited = func.now() - cast(literal(run.started_at or run.due_at), DateTime(timezone=True))
    later = MessagePage.ready_at + waited
    if run.plan["local_at"] is None:
        return later
    return case((MessagePage.ready_at < func.now(), later), else_=MessagePage.ready_at)


async def _locked(session: TenantSession, run_id: UUID) -> CampaignRun | None:
    return await session.get(CampaignRun, (session.tenant_id, run_id), with_for_update=True, populate_existing=True)
