"""The end of a test: the variant for the rest is chosen, and what waited for it is released."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Integer, case, cast, func, literal, select, update

from core.database import TenantSession
from core.wake import MESSAGE_CHANNEL
from models import CampaignRun, Message, MessagePage
from services.marketing.outcomes import testing

PAGES: Final = 40
"""Pages released in one transaction: 20,000 recipients."""
_DAY: Final = 86_400


async def decide(session: TenantSession, run_id: UUID) -> None:
    """Choose the winner of a test whose wait is over, or note that somebody is to; nothing happens when that is so."""
    run = await _locked(session, run_id)
    if run is None or run.status != "running" or run.winner is not None or run.result is not None:
        return
    decision = await testing.decide(session, run)
    run.winner, run.result = decision.winner, decision.result
    await session.flush()


async def release(session: TenantSession, run_id: UUID, *, now: datetime | None = None) -> bool:
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
        .values(held_for=None, **_when(run, now or datetime.now(UTC)))
        .execution_options(synchronize_session=False)
    )
    session.wake_after_commit(MESSAGE_CHANNEL)
    return len(pages) < PAGES


def _when(run: CampaignRun, now: datetime) -> dict[str, ColumnElement[Any]]:
    """Return when a page goes that is let go now, by the columns that say so.

    Who has the time of day behind them gets it at once, or on the next day that has it still to come. Batches begin
    anew, or what fell due meanwhile would go in one.
    """
    moment, ready_at = cast(literal(now), DateTime(timezone=True)), MessagePage.ready_at
    passed = ready_at < moment
    if run.plan["local_at"] is not None and run.plan["schedule"]["passed_zones"] == "tomorrow":
        days = cast(1 + func.floor(func.extract("epoch", moment - ready_at) / _DAY), Integer)
        # an hour early, should clocks be moved in between: the sender asks each recipient's
        sooner = ready_at + func.make_interval(0, 0, 0, days) - func.make_interval(0, 0, 0, 0, 1)
        later = MessagePage.local_at + func.make_interval(0, 0, 0, days)
        return {
            "ready_at": case((passed, sooner), else_=ready_at),
            "local_at": case((passed, later), else_=MessagePage.local_at),
        }
    if run.plan["batches"] is None:
        return {}
    later = ready_at + (moment - cast(literal(run.started_at or run.due_at), DateTime(timezone=True)))
    if run.plan["local_at"] is None:
        return {"ready_at": later}
    return {"ready_at": case((passed, later), else_=ready_at)}


async def _locked(session: TenantSession, run_id: UUID) -> CampaignRun | None:
    return await session.get(CampaignRun, (session.tenant_id, run_id), with_for_update=True, populate_existing=True)
