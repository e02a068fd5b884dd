"""Keeps count of the types of events: one process at a time, whichever comes first."""

import asyncio
from typing import Final

from core.database import Database
from relay import delta
from relay.repeating import repeat
from services.events import tally

POLL_SECONDS: Final = 2.0
"""How old a count may be; the more are counted at once, the less one costs."""


class TypeCounter:
    """Counts what the bus shows. Killed at any point, it has counted a page wholly or not at all."""

    def __init__(self, database: Database) -> None:
        """Use `database`; nothing runs before `run`."""
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres only delays."""
        await repeat(self._look, stop, delayed="event_types_delayed")

    async def _look(self) -> float:
        return 0.0 if await self.once() else POLL_SECONDS

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
