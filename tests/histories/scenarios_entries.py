"""Scenarios of journeys entered by the clock, for `tests.histories.record`."""

import pytest

from services.marketing import cron_entries
from tests.factories.entering import begun, usher, weekly
from tests.factories.marketing import walk
from tests.factories.running import Hasty, Platform


async def entered_by_date(running: Platform) -> str:
    """A look that finds nobody."""
    entry = {"date": "person.attributes.birthday", "yearly": True}
    await running.marketing.journey(walk(entry=entry, wait={"type": "wait", "for": "P1D", "next": "done"}))
    async with usher(running.client, running.marketing) as worker:
        handle = await begun(worker, running.marketing)
        await handle.result()
    return handle.id


async def entered_by_cron(running: Platform) -> str:
    """A segment in several pages."""
    await weekly(running.marketing, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cron_entries, "PAGE", 2)
        async with usher(running.client, running.marketing) as worker:
            handle = await begun(worker, running.marketing)
            await handle.result()
    return handle.id


async def continued_entering(running: Platform) -> str:
    """So many pages that it goes on in new runs."""
    await weekly(running.marketing, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cron_entries, "PAGE", 1)
        async with usher(running.client, running.marketing, interceptors=[Hasty()]) as worker:
            handle = await begun(worker, running.marketing)
            await handle.result()
    return handle.id


SCENARIOS = (entered_by_date, entered_by_cron, continued_entering)
