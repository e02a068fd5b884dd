"""Work that is looked for again and again: what is left undone stays so until later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from core.logging import get_logger
from core.waiting import any_of

FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 10.0

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
