"""Telling Temporal that an activity's worker lives."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio import activity

HEARTBEAT_SECONDS = 2.0
"""Well within the time after which a workflow gives a worker up."""


@asynccontextmanager
async def alive() -> AsyncGenerator[None]:
    """Let Temporal know, while the block runs, that this worker lives. A local activity's workflow task says so."""
    told = None if activity.info().is_local else asyncio.create_task(_keep_telling(), name="heartbeat")
    try:
        yield
    finally:
        if told is not None:
            told.cancel()


async def _keep_telling() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_SECONDS)
