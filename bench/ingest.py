"""`ingest`: events by `POST /v1/events`, one by one and a thousand at a time.

One by one against a bare FastAPI route that writes the same row by the same statement; a batch against one INSERT of
the same rows from `unnest`, sent by asyncpg. The load comes from a process of its own, both sides in turns.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Final
from uuid import UUID

import asyncpg

from bench.harness import FULL, Ratio, Report, Servers, median
from bench.loader import Load
from bench.reading import Store, database, served
from core.database import driver_url
from core.ids import new_ids

PEOPLE: Final = 10_000
CONNECTIONS: Final = 16
SECONDS: Final = 4.0 if FULL else 2.0
ROUNDS: Final = 7
"""Each side has its turn in each; the first warms up."""
BATCH: Final = 1_000
BATCHES: Final = 5
"""Of a side in a row."""
PROPERTIES: Final = {"path": "/pricing", "referrer": "https://search.example/?q=crm", "seconds": 12, "returning": True}

UNNEST: Final = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at, live, idempotency_key)
SELECT $1, e.id, e.type, e.person_id, e.person_id, e.properties::jsonb, e.occurred_at, e.live, e.key
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::timestamptz[], $7::bool[], $8::text[])
     AS e(id, type, person_id, properties, occurred_at, live, key)
"""


class Loader:
    """The process that posts."""

    def __init__(self, process: "subprocess.Popen[str]", secret: str) -> None:
        self._process = process
        self._secret = secret

    async def post(self, port: int, path: str, bodies: list[str], *, connections: int, seconds: float) -> float:
        """Return how many requests a second were answered."""
        load = Load(port=port, path=path, secret=self._secret, bodies=bodies, connections=connections, seconds=seconds)
        return float(await asyncio.to_thread(self._said, load.model_dump_json()))

    def _said(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def loading(secret: str) -> Generator[Loader]:
    """Run the process that posts."""
    command = [sys.executable, "-m", "bench.loader"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Loader(process, secret)
        finally:
            process.terminate()


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with AsyncExitStack() as cleanup:
        store = await Store.filled(await database(running, "ingest"), PEOPLE, report)
        loader = cleanup.enter_context(loading(store.secret))
        ours, bare = [
            await cleanup.enter_async_context(served(running, store, module))
            for module in ("api.app", "bench.bare_api")
        ]
        single = await _singles(store, loader, ours, bare)
        report("one by one {:,.0f}, bare route {:,.0f} events/s".format(*single))
        batched = await _batches(store, loader, ours)
        report(
            f"batches of {BATCH:,}: {1_000 * batched[0]:.1f} ms ({BATCH / batched[0]:,.0f} events/s),"
            f" one INSERT {1_000 * batched[1]:.1f} ms; one-minute load {os.getloadavg()[0]:.1f}"
        )
    return [
        Ratio("ingest", single[0] / single[1], 0.6, at_least=True),
        Ratio("ingest-batch", batched[1] / batched[0], 0.5, at_least=True),
    ]


def bodies_of(store: Store) -> list[str]:
    """Return an event of each person, as it is posted."""
    return [json.dumps(_event(email)) for email in store.emails]


async def _singles(store: Store, loader: Loader, ours: int, bare: int) -> tuple[float, float]:
    bodies = bodies_of(store)
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for port, path, found in ((ours, "/v1/events", rates[0]), (bare, "/events", rates[1])):
            rate = await loader.post(port, path, bodies, connections=CONNECTIONS, seconds=SECONDS)
            if number:
                found.append(rate)
    return median(rates[0]), median(rates[1])


async def _batches(store: Store, loader: Loader, ours: int) -> tuple[float, float]:
    """Return the seconds of a request with a batch and of an INSERT of its rows, one after another."""
    connection = await asyncpg.connect(
        driver_url(store.url),
        server_settings={"role": "tl_app", "app.tenant_id": str(store.tenant_id), "jit": "off"},
    )
    people = cycle(zip(store.people, store.emails, strict=True))
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        chosen = [[next(people) for _ in range(BATCH)] for _ in range(BATCHES)]
        bodies = [json.dumps({"events": [_event(email) for _, email in batch]}) for batch in chosen]
        rate = await loader.post(ours, "/v1/events/batch", bodies, connections=1, seconds=SECONDS / 2)
        took: list[float] = []
        for batch in chosen:
            columns = _columns([person_id for person_id, _ in batch])
            began = time.perf_counter()
            await connection.execute(UNNEST, store.tenant_id, *columns)
            took.append(time.perf_counter() - began)
        if number:
            times[0].append(1 / rate)
            times[1].append(median(took))
    await connection.close()
    return median(times[0]), median(times[1])


def _event(email: str) -> dict[str, Any]:
    return {"type": "page.viewed", "person": {"email": email}, "properties": PROPERTIES}


def _columns(people: list[UUID]) -> tuple[list[Any], ...]:
    count = len(people)
    now = datetime.now(UTC)
    return (
        new_ids(count),
        ["page.viewed"] * count,
        people,
        [json.dumps(PROPERTIES)] * count,
        [now] * count,
        [True] * count,
        [None] * count,
    )
