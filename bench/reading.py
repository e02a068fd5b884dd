"""What `profile` and `lookup` share: two databases of different size, an API on each, and a bare route beside.

A request goes over one kept connection, written and read by hand, so that the client's own work hardly counts.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import asyncpg
import httpx

from bench.harness import FULL, Ratio, Report, Servers, median
from core.actor import CLI
from core.database import Database, driver_url
from migrations.run import upgrade
from services.tenancy import api_keys, tenants
from stack.dev import CACHE
from stack.processes import ChildProcess, free_port

SMALL = 10_000
LARGE = 1_000_000 if FULL else 100_000
PAGE = 50_000
SAMPLE = 300
"""People asked for."""
ROUNDS = 8
"""Each asks for the whole sample; the first warms up."""
BLOCK = 25
"""Requests in a row to one server before the next has its turn."""

PEOPLE = """
INSERT INTO person (tenant_id, id, email, first_name, attributes)
SELECT $1, id, 'p' || n || '@bench.example', 'Bench', jsonb_build_object('n', n, 'plan', 'pro')
FROM (SELECT tl_uuid7() AS id, n FROM generate_series($2::bigint, $3::bigint) AS n) AS fresh
"""
BELONGING = (
    """
    INSERT INTO person_identifier (tenant_id, kind, value, person_id)
    SELECT tenant_id, 'email', email, id FROM person WHERE tenant_id = $1
    """,
    """
    INSERT INTO consent (tenant_id, person_id, channel, topic, status)
    SELECT tenant_id, id, 'email', 'news', 'opted_in' FROM person WHERE tenant_id = $1
    """,
    """
    INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, placed_at)
    SELECT tenant_id, id::text, id, 'EUR', 12345, now() FROM person WHERE tenant_id = $1
    """,
)
# Spread over time, so that a person's rows lie far apart, as they would have come.
EVENTS = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at)
SELECT tenant_id, tl_uuid7(), 'page.viewed', id, id, '{"path": "/pricing", "referrer": "https://search.example"}',
       now() - $2 * interval '1 day'
FROM person WHERE tenant_id = $1
"""
ACTIVITIES = """
INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, at)
SELECT tenant_id, tl_uuid7(), 'person', id, 'person.updated', 'cli', '{"first_name": ["Bank", "Bench"]}',
       now() - $2 * interval '1 day'
FROM person WHERE tenant_id = $1
"""
EACH = 5
"""Events, and activities, of a person: ten entries of the timeline."""


@dataclass(frozen=True, slots=True)
class Store:
    """A database with one tenant of so many people."""

    url: str
    tenant_id: UUID
    secret: str
    people: list[UUID]
    emails: list[str]

    @classmethod
    async def filled(cls, url: str, count: int, report: Report) -> Self:
        """Migrate and fill the database."""
        began = time.perf_counter()
        await upgrade(url)
        database = Database(url, pool_size=1)
        async with database.system() as session:
            tenant_id = (await tenants.create(session, "bench", "Bench")).id
        async with database.tenant(tenant_id) as session:
            _, secret = await api_keys.create(session, "bench", [api_keys.ALL], by=CLI)
        await database.close()
        connection = await asyncpg.connect(driver_url(url), server_settings={"synchronous_commit": "off"})
        for first in range(1, count + 1, PAGE):
            await connection.execute(PEOPLE, tenant_id, first, min(first + PAGE - 1, count))
        for statement in BELONGING:
            await connection.execute(statement, tenant_id)
        for day in range(EACH):
            await connection.execute(EVENTS, tenant_id, day)
            await connection.execute(ACTIVITIES, tenant_id, day)
        await connection.execute("VACUUM ANALYZE")
        chosen = random.Random(1).sample(range(1, count + 1), SAMPLE)
        rows = await connection.fetch(
            "SELECT id, email FROM person WHERE tenant_id = $1 AND email = ANY($2)",
            tenant_id,
            [f"p{number}@bench.example" for number in chosen],
        )
        await connection.close()
        report(f"{count:,} people, {count * EACH * 2:,} activities in {time.perf_counter() - began:.0f} s")
        return cls(url, tenant_id, secret, [row["id"] for row in rows], [row["email"] for row in rows])


class Asker:
    """One kept connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = headers

    async def ask(self, path: str) -> float:
        """Return the seconds that the answer took; it must be a 200 with a body."""
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n{self._headers}\r\n".encode()
        began = time.perf_counter()
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        seconds = time.perf_counter() - began
        assert head.startswith(b"http/1.1 200"), (head, body)
        assert b"bench.example" in body, body
        return seconds


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and what to ask it."""

    asker: Asker
    paths: list[str]


async def compare(name: str, running: Servers, report: Report, *, path: Callable[[UUID, str], str]) -> list[Ratio]:
    """Ask the small store's API, the large one's, and the bare route on the large one, in turns."""
    async with AsyncExitStack() as cleanup:
        small = await Store.filled(await database(running, "small"), SMALL, report)
        large = await Store.filled(await database(running, "large"), LARGE, report)
        contenders = [
            await _contender(cleanup, running, small, "api.app", "/v1", path),
            await _contender(cleanup, running, large, "api.app", "/v1", path),
            await _contender(cleanup, running, large, "bench.bare_api", "", path),
        ]
        times: list[list[float]] = [[] for _ in contenders]
        for number in range(ROUNDS):
            for start in range(0, SAMPLE, BLOCK):
                for contender, taken in zip(contenders, times, strict=True):
                    seconds = [await contender.asker.ask(one) for one in contender.paths[start : start + BLOCK]]
                    if number:
                        taken.extend(seconds)
    few, many, bare = (median(taken) * 1000 for taken in times)
    report(f"small {few:.2f} ms, large {many:.2f} ms, bare route on the large {bare:.2f} ms")
    return [
        Ratio(f"{name}-scale", many / few, 1.3, at_least=False),
        Ratio(f"{name}-bare", many / bare, 2, at_least=False),
    ]


async def database(running: Servers, name: str) -> str:
    """Make an empty database and return its address."""
    connection = await asyncpg.connect(driver_url(running.settings.database_url))
    await connection.execute(f"CREATE DATABASE bench_{name}")
    await connection.close()
    return f"{running.settings.database_url.rpartition('/')[0]}/bench_{name}"


async def _contender(
    cleanup: AsyncExitStack, running: Servers, store: Store, module: str, prefix: str, path: Callable[[UUID, str], str]
) -> Contender:
    port = await cleanup.enter_async_context(served(running, store, module))
    asker = await cleanup.enter_async_context(_asking(port, store))
    paths = [prefix + path(*one) for one in zip(store.people, store.emails, strict=True)]
    return Contender(asker, paths)


@asynccontextmanager
async def _asking(port: int, store: Store) -> AsyncGenerator[Asker]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Asker(reader, writer, f"Authorization: Bearer {store.secret}\r\n")
    writer.close()


@asynccontextmanager
async def served(
    running: Servers, store: Store, module: str, more: Mapping[str, str] | None = None
) -> AsyncGenerator[int]:
    """Serve the app of a module on a port, by a process of uvicorn with `more` in its environment."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": store.url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "BENCH_TENANT": str(store.tenant_id),
        **(more or {}),
    }
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"{module}:create_app", *options]
    child = ChildProcess(module, command, running.folder / f"{module}-{port}.log", env=environment, cwd=CACHE.parent)
    try:
        child.start()
        await asyncio.to_thread(child.wait_until, lambda: _answers(port), seconds=60)
        yield port
    finally:
        child.stop()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False
