"""Scenarios of searches for duplicates and of scores, for `tests.histories.record`."""

from contextlib import suppress

import pytest
from temporalio.client import WorkflowFailureError

from activities import duplicates as duplicate_activities
from services.identity import duplicate_search, scoring
from tests.eventually import eventually
from tests.factories.running import Platform
from tests.factories.scoring import add_rule, begun, scorer
from tests.factories.searching import fill, searching


async def duplicates(running: Platform) -> str:
    """A search in several steps, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicate_activities, "PAGES", 3)
        search = await searching(running.marketing.database, running.client, 50)
        async with search.worker():
            await search.handle.result()
    return search.handle.id


async def duplicates_cancelled(running: Platform) -> str:
    """A search that is cancelled on the way, and clears up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicate_search, "PEOPLE_PAGE", 1)
        search = await searching(running.marketing.database, running.client, 5_000)

        async def begun() -> bool:
            return (await search.row()).scanned > 0

        async with search.worker():
            await eventually(begun)
            await search.handle.cancel()
            with suppress(WorkflowFailureError):
                await search.handle.result()
    return search.handle.id


async def scores(running: Platform) -> str:
    """Everybody scored anew, in several pages."""
    database, tenant_id = running.marketing.database, running.marketing.tenant_id
    await fill(database, tenant_id, 25)
    await add_rule(database, tenant_id, "known", {"field": "person.email", "op": "exists"}, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "PAGE", 10)
        async with scorer(running.client, database) as worker:
            handle = await begun(worker, tenant_id)
            await handle.result()
    return handle.id
