"""Has the segments' relative dates turn when they are due: one process at a time, whichever comes first."""

import asyncio
from typing import Final

from sqlalchemy import text

from core.database import Database
from core.logging import get_logger
from relay.delivery import transient
from relay.delta import LOCK_SPACE
from relay.repeating import repeat
from services.marketing.segments import clock

POLL_SECONDS: Final = 1.0
"""How late somebody turns whose moment was written after we looked."""

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:space, hashtext('segment turns'))")

_log = get_logger(__name__)


class SegmentClock:
    """Judges who is due. Killed at any point, it has judged a page wholly or not at all."""

    def __init__(self, database: Database) -> None:
        """Use `database`; nothing runs before `run`."""
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres only delays."""
        await repeat(self.once, stop, delayed="segment_turns_delayed")

    async def once(self) -> float:
        """Judge one page; return after how many seconds to look again."""
        async with self._database.system() as session:
            if not (await session.execute(_LOCK, {"space": LOCK_SPACE})).scalar_one():
                return POLL_SECONDS
            waiting = await clock.due(session)
            for tenant_id, who in waiting.items():
                try:
                    # In a transaction of its own: only the lock is held meanwhile.
                    async with self._database.tenant(tenant_id) as own:
                        await clock.turn(own, who)
                except Exception as error:
                    if transient(error):
                        raise
                    # One tenant's trouble must not hold up the others for ever.
                    _log.exception("segment_turns_put_off", tenant=str(tenant_id), people=len(who))
                    await clock.put_off(session, tenant_id, who)
            if waiting:
                return 0.0
            seconds = await clock.seconds_to_next(session)
        return POLL_SECONDS if seconds is None else min(max(seconds, 0.0), POLL_SECONDS)
