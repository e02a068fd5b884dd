"""Nothing lost, nothing doubled, each subject's events in order, whatever commits when."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.database import Database, TenantSession
from core.ids import new_id
from relay import delta, loop
from relay.loop import Relay
from services.events.bus import Consumer, EventRow
from services.events.publish import NewEvent, publish
from tests.relay.conftest import Bus, Counting, drain


async def test_an_event_committed_late_is_read_late_not_lost(bus: Bus) -> None:
    reader = Counting()
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(bus.database.tenant(bus.tenant_id))
        await publish(slow, [NewEvent("test.happened", new_id(), "thing", properties={"n": 1})])
        async with bus.database.tenant(bus.tenant_id) as fast:
            await publish(fast, [NewEvent("test.happened", new_id(), "thing", properties={"n": 2})])
        await bus.drain(reader.consumer)
        assert await bus.effects() == [2]
    await bus.drain(reader.consumer)
    assert await bus.effects() == [2, 1]


async def test_a_transaction_open_elsewhere_does_not_hold_up_the_bus(bus: Bus) -> None:
    reader = Counting()
    async with bus.database.tenant(bus.tenant_id) as slow:
        await slow.execute(text("SELECT pg_current_xact_id()"))
        for n in range(5):
            await bus.publish()
            await bus.drain(reader.consumer)
            assert len(await bus.effects()) == n + 1


async def test_what_was_rolled_back_is_never_read(bus: Bus) -> None:
    reader = Counting()
    with suppress(RolledBackError):
        async with bus.database.tenant(bus.tenant_id) as session:
            await publish(session, [NewEvent("test.happened", new_id(), "thing", properties={"n": 1})])
            raise RolledBackError
    await bus.publish()
    await bus.drain(reader.consumer)
    assert await bus.effects() == [0]


async def test_a_large_delta_is_read_in_pages_in_the_order_of_writing(bus: Bus) -> None:
    reader = Counting()
    async with bus.database.tenant(bus.tenant_id) as early:
        await early.execute(text("SELECT pg_current_xact_id()"))
        await bus.publish(25)
        await bus.drain(reader.consumer, page_size=10)
        await bus.publish(7)
        await publish(early, [NewEvent("test.happened", new_id(), "thing", properties={"n": 99})])
    await bus.publish(3)
    await bus.drain(reader.consumer, page_size=4)
    assert await bus.effects() == [*range(25), *range(7), 99, *range(3)]
    assert max(map(len, reader.batches)) == 10
    assert [len(batch) for batch in reader.batches] == [10, 10, 5, 4, 4, 3]


async def test_what_is_committed_between_two_pages_waits_for_the_next_delta(bus: Bus) -> None:
    reader = Counting()
    relay = Relay(bus.database, [reader.consumer], page_size=2)
    async with bus.database.tenant(bus.tenant_id) as early:
        await publish(early, [NewEvent("test.happened", new_id(), "thing", properties={"n": 100})])
        await bus.publish(5)
        assert await relay.step(reader.consumer)
    await bus.publish(1)
    await drain(relay, reader.consumer)
    assert await bus.effects() == [0, 1, 2, 3, 4, 100, 0]


async def test_a_new_consumer_reads_from_the_beginning(bus: Bus) -> None:
    await bus.publish(3)
    first, second = Counting("first"), Counting("second")
    await bus.drain(first.consumer)
    await bus.publish(2)
    await bus.drain(second.consumer, page_size=2)
    assert [n for batch in second.batches for n in batch] == [0, 1, 2, 0, 1]


async def test_a_cursor_from_another_cluster_is_refused_rather_than_skipping_events(bus: Bus) -> None:
    reader = Counting()
    await bus.publish()
    await bus.drain(reader.consumer)
    async with bus.database.system() as session:
        await session.execute(text("UPDATE consumer_cursor SET seen = '900000000:900000000:'"))
    await bus.publish()
    with pytest.raises(delta.ForeignCursorError):
        await bus.drain(reader.consumer)


async def test_a_consumer_gets_the_types_it_wants_and_moves_past_the_others(bus: Bus) -> None:
    picky = Counting(types=frozenset({"test.wanted"}))
    await bus.publish(5)
    await bus.publish(2, event_type="test.wanted")
    await bus.publish(5)
    await bus.drain(picky.consumer, page_size=1)
    assert picky.batches == [[0], [1]]
    async with bus.database.system() as session:
        standing = await delta.standing(session, "counting")
        page = await delta.read(session, Consumer("counting", picky.handle), standing, 100)
    assert page.count == 0, "the cursor stands behind all events, wanted or not"


async def test_of_many_events_only_those_are_read_that_concern_the_tenant_now(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "LOOKED", 40)
    other = await bus.new_tenant()
    reader, asked = Counting(), list[tuple[UUID, frozenset[str]]]()

    async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
        role = await session.scalar(text("SELECT current_user"))
        assert role == "tl_app"
        asked.append((session.tenant_id, types))
        return frozenset({"test.wanted"}) if session.tenant_id == bus.tenant_id else frozenset()

    consumer = Consumer("counting", reader.handle, concerning=concerning)
    await bus.publish(loop.FEW + 1)
    await bus.publish(3, event_type="test.wanted")
    await bus.publish(3, event_type="test.wanted", tenant_id=other)
    await bus.publish(loop.FEW)
    await bus.drain(consumer)
    assert reader.batches == [[0, 1, 2]]
    assert {tenant_id for tenant_id, _ in asked} == {bus.tenant_id, other}
    assert all(types <= {"test.happened", "test.wanted"} for _, types in asked)
    await bus.publish(1)
    await bus.drain(consumer)
    assert reader.batches[-1] == [0], "few events are handed over unasked"


async def test_who_cannot_say_what_is_wanted_gets_all(bus: Bus) -> None:
    reader = Counting()

    async def concerning(session: TenantSession, _types: frozenset[str]) -> frozenset[str]:
        await session.execute(text("SELECT 1 / 0"))
        return frozenset()

    await bus.publish(loop.FEW + 1)
    await bus.drain(Consumer("counting", reader.handle, concerning=concerning))
    assert reader.batches == [list(range(loop.FEW + 1))]


class Recorder:
    """A consumer that remembers what it read, subject by subject."""

    def __init__(self) -> None:
        self.read: list[UUID] = []
        self.by_subject: dict[UUID, list[int]] = defaultdict(list)

    async def handle(self, _session: TenantSession, events: Sequence[EventRow]) -> None:
        for event in events:
            self.read.append(event.id)
            self.by_subject[event.subject_id].append(event.properties["n"])


class NaiveRecorder(Recorder):
    """The same, reading by position alone."""

    last = 0

    async def step(self, database: Database) -> None:
        async with database.system() as session:
            rows = await session.execute(
                text("SELECT id, position FROM event WHERE position > :last ORDER BY position"), {"last": self.last}
            )
            for event_id, position in rows:
                self.read.append(event_id)
                self.last = position


class Writers:
    """Transactions that cross: they commit late, early or never; a subject's numbers each follow another's commit."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self.bus = bus
        self.dice = random.Random(seed)
        self.locks = {new_id(): asyncio.Lock() for _ in range(8)}
        self.written = dict.fromkeys(self.locks, 0)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(self._write())

    async def _write(self) -> None:
        for _ in range(15):
            # In the subjects' order, so that no two writers wait for each other.
            subjects = sorted(self.dice.sample(list(self.locks), self.dice.randint(1, 3)))
            async with AsyncExitStack() as held:
                with suppress(RolledBackError):
                    self.written.update(await self._transaction(subjects, held))

    async def _transaction(self, subjects: list[UUID], held: AsyncExitStack) -> dict[UUID, int]:
        numbers: dict[UUID, int] = {}
        async with self.bus.database.tenant(self.bus.tenant_id) as session:
            if self.dice.random() < 0.5:
                await session.execute(text("SELECT pg_current_xact_id()"))
            for subject in subjects:
                await held.enter_async_context(self.locks[subject])
                numbers[subject] = self.written[subject] + 1
                properties = {"n": numbers[subject]}
                await publish(session, [NewEvent("test.happened", subject, "thing", properties=properties)])
                await asyncio.sleep(
                    self.dice.random() * 0.01
                )  # what makes transactions cross, not a wait for something
            if self.dice.random() < 0.2:
                raise RolledBackError
        return numbers


class RolledBackError(Exception):
    """What a writer changes its mind with."""


async def test_many_writers_and_readers_lose_and_double_nothing_and_keep_order(bus: Bus) -> None:
    """A reader by position alone runs beside ours and must lose events, else this test would prove nothing."""
    writers = Writers(bus, seed=7)
    recorder, naive = Recorder(), NaiveRecorder()
    consumer = Consumer("recorder", recorder.handle)
    relays = [Relay(bus.database, [consumer], page_size=size) for size in (3, 7)]
    finished = asyncio.Event()

    async def read(relay: Relay) -> None:
        while not finished.is_set():
            await relay.step(consumer)
            await naive.step(bus.database)

    async with asyncio.TaskGroup() as group:
        for relay in relays:
            group.create_task(read(relay))
        await writers.run()
        finished.set()
    await bus.drain(consumer)
    await naive.step(bus.database)

    async with bus.database.system() as session:
        committed = set((await session.execute(text("SELECT id FROM event"))).scalars())
    assert len(recorder.read) == len(set(recorder.read)), "doubled"
    assert set(recorder.read) == committed
    for subject, last in writers.written.items():
        assert recorder.by_subject[subject] == list(range(1, last + 1)), "a subject's events out of order"
    assert set(naive.read) != committed, "the writers never crossed: the test proves nothing"


async def test_pages_are_found_by_index_as_the_relay_s_role(bus: Bus) -> None:
    await bus.publish(20_000)
    await bus.publish(1)
    async with bus.database.system() as session:
        seen, newest = (await session.execute(text("SELECT max(xid::text::bigint), max(position) FROM event"))).one()
    owner = await asyncpg.connect(bus.url)
    await owner.execute("ANALYZE event")
    await owner.close()
    arguments = {
        "seen": f"{seen}:{seen}:",
        "target": f"{seen + 2}:{seen + 2}:",
        "types": ["test.happened"],
        "size": 2_001,
        "position": newest - 10_000,
        "until": delta.LAST,
        "tenants": [bus.tenant_id],
        "concerning": ["test.happened"],
    }
    async with bus.database.system() as session:
        for query, index in (
            (delta.FIRST_PAGE, "event_xid_idx"),
            (delta.LOOK_FIRST, "event_xid_idx"),
            (delta.NEXT_PAGE, "event_position_idx"),
            (delta.LOOK_NEXT, "event_position_idx"),
        ):
            plan = (await session.execute(text("EXPLAIN (FORMAT JSON) " + str(query)), arguments)).scalar_one()
            assert index in str(plan)
            assert "Seq Scan" not in str(plan)
