"""Scenarios of segments computed for everybody, for `tests.histories.record`."""

import pytest

from activities import segments as activities
from services.marketing.segments import refreshing
from tests.factories.computing import Computing, computing
from tests.factories.running import Platform
from tests.factories.segmenting import Segments

_KNOWN = {"field": "person.email", "op": "exists"}


async def _desk(running: Platform) -> Computing:
    await running.marketing.people(7)
    return computing(Segments(running.marketing), running.client)


async def segment(running: Platform) -> str:
    """One by rules, in several slices."""
    desk = await _desk(running)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refreshing, "PAGE", 3)
        patch.setattr(activities, "SLICE_SECONDS", 0.0)
        await desk.add("known", rules=_KNOWN)
        async with desk.worker():
            handle = await desk.begin("known")
            await handle.result()
    return handle.id


async def segment_by_sql(running: Platform) -> str:
    """One by SQL."""
    desk = await _desk(running)
    await desk.add("all", sql="SELECT person_id FROM people", refresh="manual")
    async with desk.worker():
        handle = await desk.begin("all")
        await handle.result()
    return handle.id


async def segment_scheduled(running: Platform) -> str:
    """One begun by its schedule."""
    desk = await _desk(running)
    made = await desk.add("known", rules=_KNOWN, refresh="0 9 * * *")
    async with desk.worker():
        await (await desk.begin("known")).result()
        handle = await desk.start(made.id, None)
        await handle.result()
    return handle.id


async def segment_busy(running: Platform) -> str:
    """One begun by its schedule while another computation is owed: nothing is done."""
    desk = await _desk(running)
    made = await desk.add("known", rules=_KNOWN, refresh="0 9 * * *")
    async with desk.worker():
        handle = await desk.start(made.id, None)
        await handle.result()
    return handle.id


async def segment_superseded(running: Platform) -> str:
    """One whose rules were changed before it began."""
    desk = await _desk(running)
    await desk.add("known", rules=_KNOWN)
    run = await desk.run("known")
    await desk.segments.change("known", rules={"not": _KNOWN})
    async with desk.worker():
        handle = await desk.start(run.segment_id, run.id)
        await handle.result()
    return handle.id


async def segment_failed(running: Platform) -> str:
    """One that meets data it cannot read."""
    desk = await _desk(running)
    await desk.add("bad", sql="SELECT person_id FROM people WHERE CAST(email AS integer) > 0", refresh="manual")
    async with desk.worker():
        handle = await desk.begin("bad")
        await handle.result()
    return handle.id


SCENARIOS = (segment, segment_by_sql, segment_scheduled, segment_busy, segment_superseded, segment_failed)
