"""Hearing what other processes commit, for those who look by themselves too."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from core.database import Database
from core.logging import get_logger

FIRST_RETRY: Final = 0.1
LONGEST_RETRY: Final = 5.0

_log = get_logger(__name__)


async def keep_listening(database: Database, channel: str, wake: Callable[[], None]) -> NoReturn:
    """Call `wake` on each notification of `channel`, and when one may have been missed, until cancelled.

    A connection that cannot be had, or is lost, is asked for again after a pause that doubles.
    """
    pause = FIRST_RETRY
    while True:
        try:
            async with database.listen(channel, wake) as lost:
                pause = FIRST_RETRY
                wake()  # what was notified while nobody listened
                await lost.wait()
        except Exception as error:  # noqa: BLE001 - who listens looks by itself meanwhile
            _log.warning("listen_failed", retry_in=pause, error=type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_RETRY)
