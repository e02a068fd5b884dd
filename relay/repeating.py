"""Work that is looked for again and again: what is left undone stays so until later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from core.database import Database
from core.logging import get_logger
from core.waiting import any_of

FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 10.0

SWEEP_SECONDS: Final = 1.0
"""Without being woken, look this often for what a crash left undone."""

_log = get_logger(__name__)


async def repeat(once: Callable[[], Awaitable[float]], stop: asyncio.Event, *, delayed: str) -> None:
    """Call `once`, which returns after how many seconds to be called again, until `stop` is set.

    Where it fails that is logged as `delayed`, and it is called again after a pause that doubles.
    """
    pause = FIRST_RETRY
    while not stop.is_set():
        try:
            wait = await once()
            pause = FIRST_RETRY
        except Exception as error:  # noqa: BLE001 - whatever it was, what is undone stays undone until later
            _log.warning(delayed, retry_in=pause, exc_info=error)
            wait, pause = pause, min(pause * 2, LONGEST_RETRY)
        if wait > 0:
            await any_of(stop, seconds=wait)


async def work_off(
    database: Database,
    channel: str,
    woken: asyncio.Event,
    once: Callable[[], Awaitable[bool]],
    stop: asyncio.Event,
    *,
    delayed: str,
) -> None:
    """Do what rows owe, until `stop` is set: whenever `channel` or `woken` says so, and every `SWEEP_SECONDS`.

    `once` does a page of it and returns whether there may be more. Where it fails that is logged as `delayed`, and it
    is called again: what is owed stays owed.
    """
    while not stop.is_set():
        try:
            async with database.listen(channel, woken.set) as lost:
                while not stop.is_set() and not lost.is_set():
                    woken.clear()
                    if not await once():
                        await any_of(stop, woken, seconds=SWEEP_SECONDS)
        except Exception as error:  # noqa: BLE001 - an outage only delays
            _log.warning(delayed, error=type(error).__name__)
            await any_of(stop, seconds=SWEEP_SECONDS)
