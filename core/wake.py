"""Tells other processes that work was committed for them: a NOTIFY, at most one in five milliseconds a process.

In every transaction NOTIFY would cut the rate of commits to a third, so it goes out after them, on a connection of its
own. It only wakes: a lost one costs its reader a polling interval, so a failure here is dropped.
"""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENT_CHANNEL = "tl_event"
"""Events were written: for relays."""
COHORT_CHANNEL = "tl_cohort"
"""Cohorts are to be started, or signals to be delivered."""
START_CHANNEL = "tl_start"
"""Workflows are owed to Temporal."""
SCHEDULE_CHANNEL = "tl_schedule"
"""Schedules are to be brought in line."""
MESSAGE_CHANNEL = "tl_message"
"""Messages were queued: for senders."""
CALL_CHANNEL = "tl_call"
"""Calls of others' addresses are owed."""
GAP_SECONDS = 0.005


class Notifier(Protocol):
    """What is needed of a connection in autocommit."""

    async def execute(self, query: str, /) -> object:
        """Run a statement."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class Waker:
    """Sends the NOTIFY for one process. `wake()` returns at once; a burst of calls becomes one notification a gap."""

    def __init__(self, connect: "Callable[[], Awaitable[Notifier]]") -> None:
        """Keep how to connect; nothing connects before the first `wake`."""
        self._connect = connect
        self._connection: Notifier | None = None
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def wake(self, channel: str) -> None:
        """Ask for a notification, soon; call it from the event loop, after the commit."""
        self._wanted.add(channel)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="wake")

    async def _send(self) -> None:
        while self._wanted:
            channels, self._wanted = self._wanted, set()
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                await self._connection.execute("; ".join(f"NOTIFY {channel}" for channel in sorted(channels)))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._drop()
            await asyncio.sleep(GAP_SECONDS)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close()

    async def close(self) -> None:
        """Finish what was asked for and disconnect."""
        if self._task is not None:
            await self._task
        await self._drop()
