"""Holding what a run has queued: each is one update of its pages, so it is exact to the recipient."""

from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, update

from core.database import TenantSession
from core.wake import MESSAGE_CHANNEL
from models import MessagePage

PAUSE: Final = "pause"
WINNER: Final = "winner"
CANCEL: Final = "cancel"


async def pause(session: TenantSession, run_id: UUID) -> None:
    """Have nothing more of the run sent until it is resumed."""
    await _hold(session, run_id, MessagePage.held_for.is_(None), PAUSE)


async def resume(session: TenantSession, run_id: UUID) -> None:
    """Let what a pause holds go on; what waits for a winner still does."""
    await _hold(session, run_id, MessagePage.held_for == PAUSE, None)


async def cancel(session: TenantSession, run_id: UUID) -> None:
    """Have a sender exclude all that was not sent."""
    await _hold(session, run_id, MessagePage.held_for.is_distinct_from(CANCEL), CANCEL)


async def _hold(session: TenantSession, run_id: UUID, which: ColumnElement[bool], held_for: str | None) -> None:
    changed = await session.execute(
        update(MessagePage)
        .where(
            MessagePage.tenant_id == session.tenant_id,
            MessagePage.run_id == run_id,
            MessagePage.finished_at.is_(None),
            which,
        )
        .values(held_for=held_for)
        .returning(MessagePage.id)
        .execution_options(synchronize_session=False)
    )
    if changed.first() is not None and held_for != PAUSE:
        session.wake_after_commit(MESSAGE_CHANNEL)
