"""Keeps count of the types of events: one process at a time, whichever comes first."""

import asyncio
from typing import Final

from core.database import Database
from core.logging import get_logger
from core.waiting import any_of
from relay import delta
from services.events import tally

POLL_SECONDS: Final = 2.0
"""How old a count may be; the more are counted at once, the less one costs."""
FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 10.0

_log = get_logger(__name__)


class TypeCounter:
    """Counts what the bus shows. Killed at any point, it has counted a page wholly or not at all."""

    def __init__(self, database: Database) -> None:
        """Use `database`; nothing runs before `run`."""
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres only delays."""
        pause = FIRST_RETRY
        while not stop.is_set():
            try:
                more = await self.once()
                pause = FIRST_RETRY
            except Exception as error:  # noqa: BLE001 - whatever it was, what is uncounted stays so until later
                _log.warning("event_types_delayed", retry_in=pause, exc_info=error)
                await any_of(stop, seconds=pause)
                pause = min(pause * 2, LONGEST_RETRY)
            else:
                if not more:
                    await any_of(stop, seconds=POLL_SECONDS)

    async def once(self) -> bool:
        """Count one page; return whether there may be more."""
        async with self._database.system() as session:
            if not await delta.lock(session, tally.CURSOR):
                return False
            at = await delta.standing(session, tally.CURSOR)
            ahead, arguments = delta.ahead(at)
            counted = await tally.count(session, ahead, arguments)
            target = at.cursor.target or at.now
            if counted.number == delta.LOOKED:
                await delta.move(session, tally.CURSOR, delta.Cursor(at.cursor.seen, target, counted.last))
                return True
            if counted.number or at.cursor.target is not None or (at.stale and target != at.cursor.seen):
                await delta.move(session, tally.CURSOR, delta.Cursor(target))
            return at.cursor.target is not None  # what came meanwhile
