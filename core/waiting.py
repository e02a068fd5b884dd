"""Waiting for one of several things, for the loops that run until they are told to stop."""

import asyncio
from contextlib import suppress


async def any_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Return when one of the events is set, or the time is over; nothing of it goes on waiting after that."""
    if len(events) == 1:  # what loops mostly wait for, and it needs no task
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await events[0].wait()
        return
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
