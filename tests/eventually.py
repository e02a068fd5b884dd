"""Waiting for what must become true, without guessing how long it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 30.0
"""Seconds until what should happen is given up."""

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]], *, seconds: float = PATIENCE) -> T:
    """Return the first true value that `look` finds."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)
        return found
