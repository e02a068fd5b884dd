"""`realtime`: one event's way into 200 segments, in a large store against a small one, and against the bare statements.

- `realtime-scale`: what the relay spends on one event, with 200 segments that its type concerns.
- `realtime-latency`: from handing an event in to the committed membership, through all of the relay's consumers,
  against one NOTIFY between two connections and the same statements, recorded from the relay and sent by hand.
"""

import asyncio
import random
import time
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, cast
from uuid import UUID, uuid4

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bench.harness import FULL, Ratio, Report, Servers, median
from core.actor import CLI
from core.database import Database, driver_url
from migrations.run import upgrade
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.events import ingest
from services.events.incoming import IncomingEvent
from services.marketing.segments import definitions, realtime
from services.tenancy import tenants

SMALL = 10_000
LARGE = 1_000_000 if FULL else 200_000
SEGMENTS = 200
MEMBERS = 0.01
"""Of the people, in each segment."""
SAMPLE = 200
CALLS = 200
WARM = 30
BLOCK = 10
TYPE = "shop.seen"

PEOPLE = """
INSERT INTO person (tenant_id, id, email, attributes)
SELECT $1, tl_uuid7(), 'p' || n || '@bench.example', jsonb_build_object('n', n)
FROM generate_series($2::bigint, $3::bigint) AS n
"""
EVENTS = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at)
SELECT $1, tl_uuid7(), (ARRAY['page.viewed', $2])[k], id, id, '{}', now() - k * interval '1 hour'
FROM (SELECT id, tenant_id FROM person WHERE tenant_id = $1 ORDER BY id OFFSET $3 LIMIT $4) AS p,
     generate_series(1, 2) AS k
"""
MEMBERSHIPS = """
INSERT INTO segment_member (tenant_id, segment_id, person_id)
SELECT $1, s.id, p.id FROM person p CROSS JOIN segment s
WHERE p.tenant_id = $1 AND s.tenant_id = $1 AND hashtextextended(p.id::text || s.id::text, 0) % 1000 = 0
"""


@dataclass(frozen=True, slots=True)
class Store:
    """A tenant of so many people with the segments, and nothing left on the bus."""

    url: str
    database: Database
    tenant_id: UUID
    people: Sequence[UUID]
    segments: frozenset[UUID]

    async def send(self, person_id: UUID, event_type: str = TYPE) -> None:
        """Hand an event in, as the API does."""
        event = IncomingEvent(event_type, person_id, (), "{}", datetime.now(UTC), live=True, idempotency_key=None)
        async with self.database.hot(self.tenant_id) as connection:
            await ingest.accept(connection, self.tenant_id, event, by=CLI)
        self.database.wake()


def rules(number: int) -> dict[str, object]:
    """Return the rules of one of the segments: the first is entered by the first click, the others by many events."""
    if number == 0:
        return {"event": "shop.clicked"}
    plan = {"field": "person.attributes.n", "op": ">", "value": number}
    return {"all": [plan, {"event": TYPE, "count": {"op": ">=", "value": 100 + number}, "within": "P30D"}]}


async def filled(running: Servers, name: str, count: int, report: Report) -> Store:
    """Make a database of so many people."""
    began = time.perf_counter()
    admin = await asyncpg.connect(driver_url(running.settings.database_url))
    await admin.execute(f"CREATE DATABASE bench_{name}")
    await admin.close()
    url = f"{running.settings.database_url.rpartition('/')[0]}/bench_{name}"
    await upgrade(url)
    database = Database(url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "bench", "Bench")).id
    connection = await asyncpg.connect(driver_url(url), server_settings={"synchronous_commit": "off"})
    for first in range(1, count + 1, 50_000):
        await connection.execute(PEOPLE, tenant_id, first, min(first + 49_999, count))
    for first in range(0, count, count // CALLS):  # a transaction each, as clients would have sent them
        await connection.execute(EVENTS, tenant_id, TYPE, first, count // CALLS)
    async with database.tenant(tenant_id) as session:
        for number in range(SEGMENTS):
            fields = {"key": f"s{number}", "name": "S", "kind": "dynamic", "rules": rules(number)}
            await definitions.create(session, fields, by=CLI)
    await connection.execute(MEMBERSHIPS, tenant_id)
    # As if all had been read and computed long ago.
    await connection.execute("DELETE FROM workflow_start")
    await connection.execute("UPDATE segment_refresh SET status = 'finished'")
    await connection.execute("UPDATE segment SET computed_revision = revision")
    for consumer in CONSUMERS:
        await connection.execute(
            "INSERT INTO consumer_cursor (consumer, seen) VALUES ($1, pg_current_snapshot())", consumer.name
        )
    await connection.execute("VACUUM ANALYZE")
    rows = await connection.fetch("SELECT id FROM person WHERE tenant_id = $1", tenant_id)
    segments = frozenset([row["id"] for row in await connection.fetch("SELECT id FROM segment")])
    await connection.close()
    report(f"{count:,} people, {SEGMENTS} segments in {time.perf_counter() - began:.0f} s")
    return Store(
        url, database, tenant_id, random.Random(1).sample([row["id"] for row in rows], SAMPLE + WARM), segments
    )


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure."""
    async with AsyncExitStack() as cleanup:
        small = await filled(running, "small", SMALL, report)
        large = await filled(running, "large", LARGE, report)
        for store in (small, large):
            cleanup.push_async_callback(store.database.close)
        scale = await _scale(small, large, report)
        latency = await _latency(large, report)
    return [scale, latency]


async def _scale(small: Store, large: Store, report: Report) -> Ratio:
    times: dict[str, list[float]] = {small.url: [], large.url: []}
    for start in range(0, SAMPLE, BLOCK):
        for store in (small, large):
            relay = Relay(store.database, [realtime.CONSUMER])
            for number, person_id in enumerate(store.people[start : start + BLOCK]):
                await store.send(person_id)
                began = time.perf_counter()
                assert await relay.step(realtime.CONSUMER)
                if start + number >= WARM:
                    times[store.url].append(time.perf_counter() - began)
    few, many = (median(times[store.url]) * 1000 for store in (small, large))
    report(f"one event: {few:.2f} ms at {SMALL:,} people, {many:.2f} ms at {LARGE:,}")
    return Ratio("realtime-scale", many / few, 1.3, at_least=False)


async def _latency(store: Store, report: Report) -> Ratio:
    async with AsyncExitStack() as cleanup:
        # First the one that watches the relay, while no other runs.
        bare = await cleanup.enter_async_context(_Bare(store))
        ours = await cleanup.enter_async_context(_Ours(store))
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        for start in range(0, SAMPLE, BLOCK):
            for name, contender in (("ours", ours), ("bare", bare)):
                people = store.people[start : start + BLOCK]
                await contender.forget(people)
                for number, person_id in enumerate(people):
                    began = time.perf_counter()
                    await contender.enter(person_id)
                    if start + number >= WARM:
                        times[name].append(time.perf_counter() - began)
    mine, reference = (median(times[name]) * 1000 for name in ("ours", "bare"))
    report(f"event to membership: ours {mine:.2f} ms, NOTIFY and the same statements {reference:.2f} ms")
    return Ratio("realtime-latency", mine / reference, 2, at_least=False)


class _Contender:
    """Brings people into the first segment."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cleanup = AsyncExitStack()

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await asyncpg.connect(driver_url(self.store.url), server_settings={"jit": "off"})
        self.cleanup.push_async_callback(connection.close)
        return connection

    async def __aexit__(self, *_: object) -> None:
        await self.cleanup.aclose()

    async def forget(self, people: Sequence[UUID]) -> None:
        """Take people out of the segment, and forget why they were in."""
        connection = await asyncpg.connect(driver_url(self.store.url))
        await connection.execute("DELETE FROM event WHERE type = 'shop.clicked' AND person_id = ANY($1)", people)
        await connection.execute(
            "DELETE FROM segment_member WHERE segment_id = (SELECT id FROM segment WHERE key = 's0')"
            " AND person_id = ANY($1)",
            people,
        )
        await connection.close()


class _Ours(_Contender):
    """The relay as a worker runs it."""

    async def __aenter__(self) -> Self:
        self._stop = asyncio.Event()
        self._committed = asyncio.Event()
        others = [each for each in CONSUMERS if each is not realtime.CONSUMER]
        relays = [
            Relay(self.store.database, [realtime.CONSUMER], on_committed=lambda _: self._committed.set()),
            Relay(self.store.database, others),
        ]
        self._tasks = [asyncio.create_task(relay.run(self._stop)) for relay in relays]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await super().__aexit__()

    async def enter(self, person_id: UUID) -> None:
        """Hand the event in, and wait until the relay has committed what came of it."""
        self._committed.clear()
        await self.store.send(person_id, "shop.clicked")
        await self._committed.wait()


class _Bare(_Contender):
    """One connection writes and notifies, another listens and sends what the relay was seen to send.

    The statements are the same in text and number, prepared, each about its own person; the relay's own work is left
    out.
    """

    async def __aenter__(self) -> Self:
        self._writer, self._reader, listener = [await self.connect() for _ in range(3)]
        self._told = asyncio.Event()
        await listener.add_listener("bench", self._hear)
        await self._reader.execute(
            "INSERT INTO consumer_cursor (consumer, seen) VALUES ('bench', pg_current_snapshot())"
        )
        relay = Relay(self.store.database, [realtime.CONSUMER])
        # Twice: the first time also reads the rules, which are kept from then on.
        first, self._person, *_ = self.store.people
        await self._seen_to_send(relay, first)
        statements = await self._seen_to_send(relay, self._person)
        # What went to the other connections, to wake readers, is the writer's NOTIFY here.
        self._statements = [each for each in statements if not each[0].startswith("NOTIFY")]
        return self

    async def _seen_to_send(self, relay: Relay, person_id: UUID) -> list[tuple[str, tuple[object, ...]]]:
        while await relay.step(realtime.CONSUMER):
            pass
        await self.forget([person_id])
        await self.store.send(person_id, "shop.clicked")
        with _sent() as statements:
            assert await relay.step(realtime.CONSUMER)
        return statements

    def _hear(self, *_: object) -> None:
        self._told.set()

    async def enter(self, person_id: UUID) -> None:
        """Do the same by hand."""
        self._told.clear()
        values = (uuid4(), "shop.clicked", "{}", datetime.now(UTC), True, None, person_id)
        await self._writer.fetch(ingest.BY_ID, self.store.tenant_id, *values)
        await self._writer.execute("NOTIFY bench")
        await self._told.wait()
        for sql, arguments in self._statements:
            if arguments:
                await self._reader.fetch(sql, *(self._own(each, person_id) for each in arguments))
            else:
                await self._reader.execute(sql)

    def _own(self, argument: object, person_id: UUID) -> object:
        """Return what stands for an argument that was seen when it is about this person."""
        if isinstance(argument, list):
            return [self._own(each, person_id) for each in cast("list[object]", argument)]
        if argument == realtime.CONSUMER.name:
            return "bench"
        if not isinstance(argument, UUID) or argument == self.store.tenant_id or argument in self._segments:
            return argument
        return person_id if argument == self._person else uuid4()

    @property
    def _segments(self) -> frozenset[UUID]:
        return self.store.segments


@contextmanager
def _sent() -> Generator[list[tuple[str, tuple[object, ...]]]]:
    """Note all statements that this process sends meanwhile."""
    seen: list[tuple[str, tuple[object, ...]]] = []
    driver = cast("Any", asyncpg.Connection)
    statement = cast("Any", PreparedStatement)
    fetch, execute, run = driver.fetch, driver.execute, statement.fetch

    async def noting_fetch(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
        seen.append((query, arguments))
        return await fetch(connection, query, *arguments, **options)

    async def noting_execute(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        seen.append((query, arguments))
        return await execute(connection, query, *arguments, **options)

    async def noting_run(prepared: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        seen.append((prepared.get_query(), arguments))
        return await run(prepared, *arguments, **options)

    driver.fetch, driver.execute, statement.fetch = noting_fetch, noting_execute, noting_run
    try:
        yield seen
    finally:
        driver.fetch, driver.execute, statement.fetch = fetch, execute, run
