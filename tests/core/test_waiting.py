"""Waiting for one of several events."""

import asyncio
from contextlib import suppress

import pytest

from core.waiting import any_of


@pytest.mark.parametrize("which", [0, 1])
async def test_either_event_ends_the_wait(which: int) -> None:
    events = asyncio.Event(), asyncio.Event()
    waiting = asyncio.create_task(any_of(*events))
    events[which].set()
    await asyncio.wait_for(waiting, 5)


async def test_the_time_ends_the_wait() -> None:
    await asyncio.wait_for(any_of(asyncio.Event(), seconds=0.01), 5)


async def test_a_wait_that_is_given_up_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(any_of(asyncio.Event(), asyncio.Event()))
    for _ in range(3):  # it starts, and so do the two it waits for
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) == 3
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    if left := asyncio.all_tasks() - before:
        await asyncio.wait(left, timeout=5)
    assert asyncio.all_tasks() <= before
