"""Pause, resume and cancel what is queued of a campaign's run: exact to the recipient, for a page knows if it may go.

Each is one statement about pages. A page that is being sent when it is held is given back after the mails begun: the
senders are woken and look. A page that waits for the winner of a test keeps waiting for it through pauses.
"""

from uuid import UUID

from sqlalchemy import Update, func, or_, select, update

from core.database import TenantSession
from core.errors import NotFoundError
from core.wake import MESSAGE_CHANNEL
from models import CampaignRun, MessagePage


async def pause(session: TenantSession, run_id: UUID) -> None:
    """Hold the run's pages until `resume`. The run is `paused` by then, so that what is queued meanwhile is held too.

    Raises:
        NotFoundError: no such run.
    """
    await _lock(session, run_id)
    await session.execute(_of(session, run_id).where(MessagePage.held_for.is_(None)).values(held_for="pause"))
    session.wake_after_commit(MESSAGE_CHANNEL)


async def resume(session: TenantSession, run_id: UUID) -> None:
    """Let go what `pause` held; what waits for a winner still does.

    Raises:
        NotFoundError: no such run.
    """
    await _lock(session, run_id)
    await session.execute(_of(session, run_id).where(MessagePage.held_for == "pause").values(held_for=None))
    session.wake_after_commit(MESSAGE_CHANNEL)


async def cancel(session: TenantSession, run_id: UUID) -> None:
    """Have senders exclude all that is queued of the run as `cancelled`, whatever it waits for.

    Raises:
        NotFoundError: no such run.
    """
    await _lock(session, run_id)
    held = or_(MessagePage.held_for.is_(None), MessagePage.held_for != "cancel")
    await session.execute(
        _of(session, run_id)
        .where(held)
        .values(held_for="cancel", ready_at=func.least(MessagePage.ready_at, func.now()))
    )
    session.wake_after_commit(MESSAGE_CHANNEL)


async def _lock(session: TenantSession, run_id: UUID) -> None:
    """Have the run stay as it is until the transaction ends; who queues for it waits meanwhile."""
    run = select(CampaignRun.id).where(CampaignRun.tenant_id == session.tenant_id, CampaignRun.id == run_id)
    if await session.scalar(run.with_for_update()) is None:
        raise NotFoundError("No such run.")


def _of(session: TenantSession, run_id: UUID) -> Update:
    return (
        update(MessagePage)
        .where(
            MessagePage.tenant_id == session.tenant_id,
            MessagePage.run_id == run_id,
            MessagePage.finished_at.is_(None),
        )
        .execution_options(synchronize_session=False)
    )
