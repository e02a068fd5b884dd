"""`kill -9` in the middle of an erasure: the person is all there, or all gone."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from core.database import Database
from tests.contents import Contents
from tests.eventually import eventually
from tests.factories.erasing import erased
from tests.factories.marketing import Marketing
from tests.services.identity.erasable import PHONE, SECRET, Known, left_of
from tests.services.identity.test_erasing import known

__all__ = ["known"]

ROOT = Path(__file__).parents[3]
WHERE = {
    "waiter": "before anything is changed",
    "person": "when its rows elsewhere are locked",
    "suppression": "at the first change",
    "person_merge": "among what quotes the person",
    "order_fact": "in a table of another domain",
    "consent": "in its own tables",
    "activity": "in the owner's function, the log being last",
}
"""Tables whose rows are held, so that the erasure stands still there when it is killed."""


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@asynccontextmanager
async def process(url: str, tenant_id: UUID, person_id: UUID) -> AsyncGenerator[asyncio.subprocess.Process]:
    """An erasure by another process."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.identity.erasing_process", url, str(tenant_id), str(person_id)),
        cwd=ROOT,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


@pytest.mark.parametrize("table", WHERE)
async def test_killed_on_the_way_it_has_done_nothing(
    table: str,
    known: Known,
    marketing: Marketing,
    database: Database,
    admin: "asyncpg.Connection[Any]",
    contents: Contents,
) -> None:
    tenant_id = marketing.tenant_id
    before = await contents.of(tenant_id)
    async with process(marketing.url, tenant_id, known.person_id) as running:
        async with admin.transaction():
            held = f"SELECT FROM {table} WHERE tenant_id = $1 FOR UPDATE"
            await admin.execute(held, tenant_id)
            await marketing.until_blocked()
            running.send_signal(signal.SIGKILL)
            await running.wait()
        await eventually(lambda: nobody_waits(admin))
    assert await contents.of(tenant_id) == before
    await erased(database, tenant_id, known.person_id)
    assert set(await left_of(admin, tenant_id, SECRET, PHONE)) <= {"import_reject"}


async def nobody_waits(admin: "asyncpg.Connection[Any]") -> bool:
    """Whether the server has noticed that the process is gone."""
    return not await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
        " AND application_name = 'throughline-tl_app'"
    )


async def test_left_alone_it_has_done_all(known: Known, marketing: Marketing, admin: "asyncpg.Connection[Any]") -> None:
    async with process(marketing.url, marketing.tenant_id, known.person_id) as running:
        assert await running.wait() == 0
    assert set(await left_of(admin, marketing.tenant_id, SECRET, PHONE)) <= {"import_reject"}
