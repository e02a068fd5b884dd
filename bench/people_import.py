"""`import`: people with their created events through an import, against bare COPY of the same rows.

The reference copies, as a superuser whom row-level security does not concern, what an import has left in each table of
another tenant: same tables, same indexes and foreign keys, same number of rows, in transactions of the same size. Both
go in turns. The import reads, judges and resolves each row besides.
"""

import asyncio
import csv
import io
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil

from bench.harness import CACHE, FULL, Ratio, Report, Servers, Tenant, tenant
from core.actor import CLI
from core.ids import new_id
from services.identity import import_upload, imports
from services.identity.import_run import ROWS
from services.identity.import_upload import Upload
from services.tenancy import tenants
from stack import temporal
from stack.processes import ChildProcess

PEOPLE = 1_000_000 if FULL else 100_000
PART = PEOPLE // 10
"""The scale that memory at full scale is compared with."""
BOUND = 4.0
MEMORY_BOUND = 1.25
TABLES = ("person", "person_identifier", "activity", "event")
DOMAINS = 200


def lines(count: int, *, first: int = 0) -> Iterator[bytes]:
    """Yield a CSV file of people nobody knows, a piece at a time."""
    yield b"email,external_id,first_name,last_name,plan,city\n"
    for begin in range(first, first + count, ROWS):
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerows(
            (
                f"person{n}@host{n % DOMAINS}.example",
                f"crm-{n}",
                f"First{n % 997}",
                f"Last{n % 983}",
                ("free", "pro", "team")[n % 3],
                f"City {n % 5000}",
            )
            for n in range(begin, min(begin + ROWS, first + count))
        )
        yield buffer.getvalue().encode()


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with tenant(running, "import") as bench, _worker(running) as worker:
        seconds, small = await _import(bench, worker, PART)
        report(f"{PART} imported in {seconds:.1f} s, {PART / seconds:.0f}/s; the worker's peak {small:.0f} MB")
        seconds, large = await _import(bench, worker, PEOPLE, first=PART)
        report(
            f"{PEOPLE} people imported in {seconds:.1f} s, {PEOPLE / seconds:.0f}/s; the worker's peak {large:.0f} MB"
        )
        bare = await _bare(bench, report)
        report(f"the same rows by bare COPY in {bare:.1f} s, {PEOPLE / bare:.0f}/s")
    return [
        Ratio("import", seconds / bare, BOUND, at_least=False),
        Ratio("import memory", large / small, MEMORY_BOUND, at_least=False),
    ]


async def _import(bench: Tenant, worker: ChildProcess, count: int, *, first: int = 0) -> tuple[float, float]:
    """Import as a caller does; return the seconds from start to finished, and the worker's peak memory in MB."""
    async with bench.database.system() as session:
        made = await tenants.create(session, f"import-{new_id().hex}", "Import")

    async def content() -> AsyncIterator[bytes]:
        for piece in lines(count, first=first):
            yield piece

    await bench.analyze()
    found = await import_upload.receive(
        lambda: bench.database.tenant(made.id), content(), Upload(content_type="text/csv"), by=CLI
    )
    peak = asyncio.create_task(_peak(worker.pid))
    began = time.perf_counter()
    async with bench.database.tenant(made.id) as session:
        await imports.start(session, found.id, by=CLI)
    while found.status != "finished":
        await asyncio.sleep(0.1)
        async with bench.database.tenant(made.id) as session:
            found = await imports.get(session, found.id)
        assert found.status in {"queued", "running", "finished"}, found.error
    seconds = time.perf_counter() - began
    peak.cancel()
    assert (found.created, found.rejected) == (count, 0)
    _Last.tenant_id = made.id
    return seconds, (await asyncio.gather(peak))[0]


class _Last:
    """The tenant of the last import: what the reference copies."""

    tenant_id: UUID


async def _peak(pid: int) -> float:
    process = psutil.Process(pid)
    peak = 0
    try:
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return peak / 1024 / 1024


async def _bare(bench: Tenant, report: Report) -> float:
    """Copy the last import's rows into another tenant, page by page; return the seconds the copying took."""
    async with bench.database.system() as session:
        copy = (await tenants.create(session, f"bare-{new_id().hex}", "Bare")).id
    connection = await asyncpg.connect(bench.url)
    source = await asyncpg.connect(bench.url)
    seconds = 0.0
    columns = {table: await _columns(connection, table) for table in TABLES}
    rows = await source.fetch(
        "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM person WHERE tenant_id = $1) p"
        " WHERE n % $2 = 1 ORDER BY id",
        _Last.tenant_id,
        ROWS,
    )
    starts = [row["id"] for row in rows]
    ids = dict[UUID, UUID]()
    for low, high in zip(starts, [*starts[1:], UUID(int=2**128 - 1)], strict=True):
        pages = {table: await _page(source, table, columns[table], (low, high), copy, ids) for table in TABLES}
        began = time.perf_counter()
        async with connection.transaction():
            for table in TABLES:
                await connection.copy_records_to_table(table, records=pages[table], columns=columns[table])
        seconds += time.perf_counter() - began
        ids.clear()
    counted = {
        table: await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", copy)  # noqa: S608 - ours
        for table in TABLES
    }
    report(f"copied {counted}")
    await connection.close()
    await source.close()
    return seconds


async def _columns(connection: "asyncpg.Connection[Any]", table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' AND attidentity = '' AND attname <> 'xid' ORDER BY attnum",
        table,
    )
    return [row[0] for row in rows]


_OF_PERSON = {"person": "id", "activity": "subject_id"}


async def _page(
    source: "asyncpg.Connection[Any]",
    table: str,
    columns: list[str],
    bounds: tuple[UUID, UUID],
    tenant_id: UUID,
    ids: dict[UUID, UUID],
) -> list[tuple[Any, ...]]:
    """Return a table's rows of these people, made another tenant's and given new ids."""
    person = _OF_PERSON.get(table, "person_id")
    order = "kind, value" if "value" in columns else "id"
    rows = await source.fetch(
        f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - ours
        f" WHERE tenant_id = $1 AND {person} >= $2 AND {person} < $3 ORDER BY {order}",
        _Last.tenant_id,
        *bounds,
    )
    own = [column in {"id", "person_id", "subject_id"} for column in columns]
    tenant_at = columns.index("tenant_id")
    result: list[tuple[Any, ...]] = []
    for row in rows:
        values = [
            (ids.get(value) or ids.setdefault(value, new_id())) if of and value is not None else value
            for of, value in zip(own, row, strict=True)
        ]
        values[tenant_at] = tenant_id
        result.append(tuple(values))
    return result


@asynccontextmanager
async def _worker(running: Servers) -> AsyncGenerator[ChildProcess]:
    environment = {
        **os.environ,
        "DATABASE_URL": running.settings.database_url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "MAIL_DIR": str(running.folder / "mail"),
        "DATA_DIR": str(running.folder / "data"),
        "LOG_LEVEL": "WARNING",
    }
    log: Path = running.folder / "worker.log"
    worker = ChildProcess("worker", [sys.executable, "worker.py"], log, env=environment, cwd=CACHE.parent)
    try:
        worker.start()
        address = running.settings.temporal_address
        await asyncio.to_thread(worker.wait_until, lambda: asyncio.run(temporal.has_poller(address, worker.pid)))
        yield worker
    finally:
        worker.stop()
