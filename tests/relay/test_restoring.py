"""A logical dump, restored into another cluster: each consumer goes on where it was, with nothing lost or doubled."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import delete, select

from core.actor import CLI, SYSTEM
from core.address_hashes import AddressHashes
from core.database import Database
from core.ids import new_id
from migrations.run import prepare_roles
from models import CampaignRun, Person, WorkflowStart
from models.campaigns import RUN_STATUSES
from relay import figures
from relay.delta import ForeignCursorError
from relay.loop import Relay
from relay.restoring import StillRunningError, restored
from services.identity import duplicates, erasing
from services.journeys import journeys, publishing
from services.journeys.simulation import runs as simulations
from services.marketing.campaigns import runs
from stack.postgres import EmbeddedPostgres
from tests.dumping import run_program
from tests.factories.marketing import EXIT, add_run
from tests.relay.conftest import Bus, Counting


@asynccontextmanager
async def another_cluster(url: str) -> AsyncGenerator[str]:
    """A cluster that was made just now, with what a dump of the database at `url` holds; its URL."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own temporary folders are closed to PostgreSQL's account
        server = EmbeddedPostgres(Path(folder))
        await asyncio.to_thread(server.start)
        try:
            dump = Path(folder) / "dump"
            await prepare_roles(server.url())
            await asyncio.to_thread(run_program, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")
            into = ("--exit-on-error", "--single-transaction", f"--dbname={server.url()}")
            await asyncio.to_thread(run_program, "pg_restore", *into, str(dump))
            yield server.url()
        finally:
            await asyncio.to_thread(server.stop)


async def test_the_bus_goes_on_in_another_cluster(bus: Bus) -> None:
    ahead, behind, never = Counting("ahead"), Counting("behind"), Counting("never")
    await bus.drain(never.consumer)  # knows nothing yet
    await bus.publish(3)
    await bus.drain(behind.consumer)
    await bus.publish(2)
    await bus.drain(ahead.consumer)
    await bus.publish(1)
    async with another_cluster(bus.url) as url:
        database = Database(url)
        there = Bus(database, url, bus.tenant_id)
        with pytest.raises(ForeignCursorError):
            await Relay(database, [ahead.consumer]).step(ahead.consumer)
        found = {figure.name: figure.value for figure in await figures.read(database)}
        assert found["cursors_from_elsewhere"] == 2  # the third has a cursor that has seen nothing
        with pytest.raises(StillRunningError):
            await restored(url)
        await database.close()
        told = await restored(url)
        assert (told.consumers, told.unread) == (3, 6)
        for consumer in (ahead, behind, never):
            consumer.batches.clear()
        database = there.database = Database(url)
        try:
            await there.drain(ahead.consumer, behind.consumer, never.consumer)
            read = {each.name: [n for batch in each.batches for n in batch] for each in (ahead, behind, never)}
            tenants_own = len(read["never"]) - 6  # what there was before
            assert read == {"ahead": [0], "behind": [0, 1, 0], "never": [0, 1, 2, 0, 1, 0]}
            assert tenants_own == 0
            await there.publish(1)
            await there.drain(ahead.consumer, behind.consumer)
            assert (ahead.batches[-1], behind.batches[-1]) == ([0], [0])
            lags = {f.label: f.value for f in await figures.read(database) if f.name == "consumer_lag_events"}
            assert (lags["ahead"], lags["behind"], lags["never"]) == (0, 0, 1)
        finally:
            await database.close()
        connection = await asyncpg.connect(url)
        forced = "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname IN ('event', 'consumer_cursor')"
        assert await connection.fetchval(forced)
        await connection.close()


async def test_in_the_middle_of_a_delta_nothing_is_lost(bus: Bus) -> None:
    paging, other = Counting("paging"), Counting("other")
    await bus.publish(2)
    await bus.drain(paging.consumer, other.consumer)
    await bus.publish(5)
    assert await Relay(bus.database, [paging.consumer], page_size=2).step(paging.consumer)
    async with another_cluster(bus.url) as url:
        await restored(url)
        paging.batches.clear()
        other.batches.clear()
        database = Database(url)
        await Bus(database, url, bus.tenant_id).drain(paging.consumer, other.consumer)
        await database.close()
    assert [n for batch in paging.batches for n in batch] == [2, 3, 4]
    assert [n for batch in other.batches for n in batch] == [0, 1, 2, 3, 4]


async def test_workflows_that_temporal_lost_are_owed_again_as_they_were_owed(bus: Bus) -> None:
    async def owed() -> list[tuple[Any, ...]]:
        async with bus.database.system() as session:
            columns = (WorkflowStart.workflow, WorkflowStart.workflow_id, WorkflowStart.queue, WorkflowStart.domain)
            query = select(*columns, WorkflowStart.input, WorkflowStart.signal).order_by(WorkflowStart.workflow_id)
            return [tuple(row) for row in await session.execute(query)]

    async with bus.database.tenant(bus.tenant_id) as session:
        for status in RUN_STATUSES:
            run = await session.get_one(CampaignRun, (bus.tenant_id, await add_run(session, status=status)))
            if status in {"scheduled", "running", "paused"}:
                await runs.wake(session, run)
        await duplicates.start(session, by=SYSTEM)
        person = Person(tenant_id=bus.tenant_id, id=new_id(), email="ann@shop.example")
        session.add(person)
        await session.flush()
        await erasing.erase(session, person.id, by=SYSTEM, hashes=AddressHashes("only for tests"))
        definition = {"entry": {"api": True}, "start": "done", "nodes": {"done": EXIT}}
        journey = await journeys.create(session, key="stage", name="Stage", definition=definition, by=CLI, domain="crm")
        await publishing.publish(session, journey, plan={}, by=CLI)
        await simulations.ask(session, journey, simulations.Asked(), by=CLI)
    before = await owed()
    assert len(before) == 7
    async with bus.database.system() as session:
        await session.execute(delete(WorkflowStart).where(WorkflowStart.workflow_id != before[0][1]))
    await bus.database.close()
    told = await restored(bus.url, bus=False)
    assert (told.events, told.workflows) == (0, 6)  # the seventh is owed already
    assert await owed() == before
