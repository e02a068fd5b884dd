"""The search for duplicates by a real worker, which dies on the way."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities import duplicates as activities
from activities.duplicates import DuplicateActivities
from contracts.duplicates import ADVANCE, Advanced, DuplicateSearch
from core.actor import CLI
from core.database import Database
from services.identity import duplicate_search, duplicates
from tests.eventually import eventually
from tests.factories.searching import searching

PEOPLE = 5_000


@pytest.fixture
async def store(empty_database_url: str) -> AsyncGenerator[Database]:
    database = Database(empty_database_url)
    yield database
    await database.close()


async def test_a_search_outlives_its_worker(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_search, "PEOPLE_PAGE", 500)
    monkeypatch.setattr(duplicate_search, "BLOCK_PAGE", 500)
    monkeypatch.setattr(activities, "PAGES", 7)
    search = await searching(store, temporal_client, PEOPLE)
    deaths = 0

    @activity.defn(name=ADVANCE)
    async def mortal(asked: DuplicateSearch) -> Advanced:
        """Die in the third page."""
        nonlocal deaths
        for number in range(3):
            async with store.tenant(asked.tenant_id) as session:
                await duplicate_search.advance(session, asked.run_id)
                if number == 2:
                    await session.rollback()
        deaths += 1
        raise RuntimeError("gone")

    async def has_died() -> bool:
        return deaths >= 3

    async with search.worker([mortal, DuplicateActivities(store).abandon]):
        await eventually(has_died)
    assert 0 < (await search.row()).scanned < PEOPLE
    async with search.worker():
        async with asyncio.timeout(60):
            await search.handle.result()
    run = await search.row()
    assert (run.status, run.people, run.scanned, run.found) == ("finished", PEOPLE, PEOPLE, PEOPLE // 10)
    assert await search.left() == 0


async def test_what_cannot_be_done_fails_visibly_and_may_be_started_again(
    store: Database, temporal_client: Client
) -> None:
    search = await searching(store, temporal_client, 20)

    @activity.defn(name=ADVANCE)
    async def refuse(asked: DuplicateSearch) -> Advanced:
        if (await search.row()).status == "queued":
            raise ApplicationError("no", type="Broken", non_retryable=True)
        return await DuplicateActivities(store).advance(asked)

    async with search.worker([refuse, DuplicateActivities(store).abandon]):
        with pytest.raises(WorkflowFailureError):
            await search.handle.result()
    run = await search.row()
    assert (run.status, run.error) == ("failed", "Broken")
    async with store.tenant(search.tenant_id) as session:
        await duplicates.start(session, by=CLI)


# the SDK warns where an activity ends in the moment in which it is told to stop
@pytest.mark.filterwarnings("ignore:Cannot find activity to cancel")
async def test_a_workflow_that_is_cancelled_leaves_nothing_behind(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_search, "PEOPLE_PAGE", 10)
    monkeypatch.setattr(activities, "PAGES", 1)
    search = await searching(store, temporal_client, PEOPLE)

    async def begun() -> bool:
        return (await search.row()).scanned > 0

    async with search.worker():
        await eventually(begun)
        await search.handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await search.handle.result()
    run = await search.row()
    assert (run.status, run.error) == ("cancelled", None)
    assert run.scanned < PEOPLE
    assert await search.left() == 0
