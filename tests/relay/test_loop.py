"""Effects exactly once, past what cannot be handled, woken at once, back after an outage."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text

from core import tracing
from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError
from core.ids import new_id
from relay import loop
from relay.loop import Chore, Relay
from services.events import dead
from services.events.bus import Consumer, EventRow
from services.events.publish import NewEvent, publish
from tests.relay.conftest import Bus, Counting, drain
from tests.tracing import traced

NEVER = 3_600.0
"""A polling interval that no test lives to see: what happens was woken."""


@asynccontextmanager
async def running(
    bus: Bus,
    *consumers: Consumer,
    poll_seconds: float = NEVER,
    on_committed: Callable[[AbstractSet[str]], None] = lambda _: None,
) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    relay = Relay(bus.database, consumers, poll_seconds=poll_seconds, on_committed=on_committed)
    task = asyncio.create_task(relay.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def eventually(expected: object, ask: Callable[[], object]) -> None:
    """Wait until `ask()`, awaited where it must be, gives `expected`."""
    found: object = None
    try:
        async with asyncio.timeout(15):
            while True:
                found = ask()
                if asyncio.iscoroutine(found):
                    found = await found
                if found == expected:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"expected {expected!r}, last found {found!r}")


async def terminate(bus: Bus, application: str, query: str) -> int:
    """End the server's processes behind the connections of this database that last ran `query`."""
    connection = await asyncpg.connect(bus.url)
    try:
        rows = await connection.fetch(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = $1 AND query LIKE $2 AND pid <> pg_backend_pid()
            """,
            application,
            query,
        )
        return len(rows)
    finally:
        await connection.close()


async def test_a_batch_that_dies_before_its_commit_comes_again_with_one_effect_each(bus: Bus) -> None:
    deaths = iter([2, 4])
    dies_at = next(deaths)

    async def die(session: TenantSession, event: EventRow) -> None:
        nonlocal dies_at
        if event.properties["n"] == dies_at:
            dies_at = next(deaths, -1)
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            killer = await asyncpg.connect(bus.url)
            await killer.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            await killer.close()

    reader = Counting(before=die)
    await bus.publish(6)
    relay = Relay(bus.database, [reader.consumer], page_size=4)
    for _ in range(2):
        with pytest.raises(Exception, match=r"clos|terminat"):
            await drain(relay, reader.consumer)
    await drain(relay, reader.consumer)
    assert await bus.effects() == [0, 1, 2, 3, 4, 5]


async def test_a_cancelled_relay_leaves_its_page_to_the_next(bus: Bus) -> None:
    entered = asyncio.Event()
    hold = True

    async def hang(_session: TenantSession, _event: EventRow) -> None:
        entered.set()
        if hold:
            await asyncio.Event().wait()

    reader = Counting(before=hang)
    await bus.publish(3)
    task = asyncio.create_task(Relay(bus.database, [reader.consumer]).step(reader.consumer))
    await entered.wait()
    other = Counting()
    assert not await Relay(bus.database, [other.consumer]).step(other.consumer), (
        "a consumer is fed by one relay at a time"
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold = False
    await bus.drain(reader.consumer)
    assert await bus.effects() == [0, 1, 2]


async def refuse_three_and_seven(session: TenantSession, event: EventRow) -> None:
    if event.properties["n"] == 3:
        raise ValueError("not a number I like \0")
    if event.properties["n"] == 7:
        await session.execute(text("SELECT 1 / 0"))


async def test_events_that_cannot_be_handled_are_parked_and_the_others_go_on(bus: Bus) -> None:
    reader, other = Counting(before=refuse_three_and_seven), Counting("other")
    await bus.publish(20)
    await bus.drain(reader.consumer)
    assert await bus.effects() == [n for n in range(20) if n not in {3, 7}]
    async with bus.database.tenant(bus.tenant_id) as session:
        parked = await dead.list_parked(session, limit=10, consumer=None, state="parked")
    assert [(item.event.properties["n"], item.dead.consumer, item.dead.attempts) for item in reversed(parked)] == [
        (3, "counting", 1),
        (7, "counting", 1),
    ]
    assert "ValueError: not a number I like" in parked[1].dead.error
    assert "division by zero" in parked[0].dead.error
    await bus.drain(other.consumer)
    assert other.batches == [list(range(20))], "another consumer is not concerned"


async def test_a_parked_event_is_handled_again_on_request(bus: Bus) -> None:
    reader = Counting(before=refuse_three_and_seven)
    await bus.publish(9)
    await bus.drain(reader.consumer)
    async with bus.database.tenant(bus.tenant_id) as session:
        seven, three = await dead.list_parked(session, limit=10, consumer="counting", state=None)
        for item in (seven, three):
            assert (await dead.request_replay(session, item.dead.id, by=CLI)).state == "replaying"

    await bus.drain(reader.consumer)
    async with bus.database.tenant(bus.tenant_id) as session:
        again = await dead.get(session, three.dead.id)
        assert (again.state, again.dead.attempts) == ("parked", 2)
        await dead.request_replay(session, three.dead.id, by=CLI)

    reader.before = None
    reader.batches.clear()
    await bus.drain(reader.consumer)
    await bus.drain(reader.consumer)
    assert reader.batches == [[3]], "only what was asked for, and once"
    assert sorted(await bus.effects()) == [0, 1, 2, 3, 4, 5, 6, 8]
    async with bus.database.tenant(bus.tenant_id) as session:
        assert (await dead.get(session, three.dead.id)).state == "resolved"
        assert (await dead.get(session, seven.dead.id)).state == "parked"
        with pytest.raises(ConflictError):
            await dead.request_replay(session, three.dead.id, by=CLI)


async def test_a_deadlock_parks_nothing_and_is_tried_again(bus: Bus) -> None:
    failures = 2

    async def deadlock(session: TenantSession, _event: EventRow) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            await session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"))

    reader = Counting(before=deadlock)
    await bus.publish(1)  # a second one would get past the failures by halving
    async with running(bus, reader.consumer):
        await eventually([0], bus.effects)
    async with bus.database.tenant(bus.tenant_id) as session:
        assert await dead.list_parked(session, limit=10, consumer=None, state=None) == []


async def test_a_consumer_works_as_the_tenant_of_its_events(bus: Bus) -> None:
    other = await bus.new_tenant()
    seen: list[tuple[str, str, int]] = []

    async def look(session: TenantSession, _event: EventRow) -> None:
        row = (
            await session.execute(
                text("SELECT current_user, current_setting('app.tenant_id'), (SELECT count(*) FROM event)")
            )
        ).one()
        seen.append(tuple(row))

    await bus.publish(1)
    await bus.publish(2, tenant_id=other)
    await bus.drain(Counting(before=look).consumer)
    assert seen == [("tl_app", str(bus.tenant_id), 1), ("tl_app", str(other), 2), ("tl_app", str(other), 2)]


async def test_events_published_by_a_consumer_wake_the_others(bus: Bus) -> None:
    async def echo(session: TenantSession, events: list[EventRow]) -> None:
        await publish(session, [NewEvent("test.echo", e.subject_id, "thing", properties=e.properties) for e in events])

    first = Consumer("echo", echo, frozenset({"test.happened"}))  # pyright: ignore[reportArgumentType]  # a list will do
    second = Counting(types=frozenset({"test.echo"}))
    committed: list[None] = []
    async with running(bus, first, second.consumer, on_committed=lambda _: committed.append(None)):
        await bus.publish(3)
        await eventually([0, 1, 2], bus.effects)
    assert len(committed) >= 2


async def test_whose_effect_is_awaited_goes_first(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "HEAD_START", NEVER)
    order: list[str] = []

    def telling(name: str) -> Callable[[TenantSession, Sequence[EventRow]], Awaitable[None]]:
        async def tell(_session: TenantSession, _events: Sequence[EventRow]) -> None:
            order.append(name)

        return tell

    await bus.publish(1)
    others = [Consumer(name, telling(name)) for name in ("one", "two")]
    async with running(bus, *others, Consumer("awaited", telling("awaited"), awaited=True)):
        await eventually(3, lambda: len(order))
    assert order[0] == "awaited"


async def test_who_is_awaited_long_does_not_keep_the_others(bus: Bus) -> None:
    other_came = asyncio.Event()

    async def come(_session: TenantSession, _events: Sequence[EventRow]) -> None:
        other_came.set()

    async def hang(_session: TenantSession, _events: Sequence[EventRow]) -> None:
        await asyncio.wait_for(other_came.wait(), 10)

    await bus.publish(1)
    async with running(bus, Consumer("other", come), Consumer("awaited", hang, awaited=True)):
        await asyncio.wait_for(other_came.wait(), 10)


async def test_the_relay_listens_again_when_its_connection_was_lost(bus: Bus) -> None:
    reader = Counting()
    async with running(bus, reader.consumer):
        await bus.publish(1)
        await eventually([0], bus.effects)
        await eventually(1, lambda: terminate(bus, "throughline-tl_system", "LISTEN%"))
        await bus.publish(2)
        await eventually([0, 0, 1], bus.effects)
        await eventually(1, lambda: terminate(bus, "throughline-tl_system", "LISTEN%"))
        await bus.publish(3)
        await eventually([0, 0, 1, 0, 1, 2], bus.effects)


async def test_without_a_notification_polling_finds_the_event(bus: Bus) -> None:
    reader = Counting()
    async with running(bus, reader.consumer, poll_seconds=0.05):
        async with bus.database.tenant(bus.tenant_id) as session:
            await publish(session, [NewEvent("test.happened", new_id(), "thing", properties={"n": 5})])
            session.info.pop("wake")
        await eventually([5], bus.effects)


async def test_housekeeping_goes_on_past_a_chore_that_fails(bus: Bus) -> None:
    done = asyncio.Event()

    async def fail(_database: Database) -> None:
        raise RuntimeError

    async def work(_database: Database) -> None:
        done.set()

    chores: list[Chore] = [fail, work]
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(bus.database, [], chores=chores).run(stop))
    await asyncio.wait_for(done.wait(), 10)
    stop.set()
    await asyncio.wait_for(task, 10)


async def test_what_one_tenants_event_causes_has_not_the_trace_of_anothers_in_the_same_page(bus: Bus) -> None:
    async def follow(session: TenantSession, events: Sequence[EventRow]) -> None:
        await publish(session, [NewEvent("test.followed", event.subject_id, "thing") for event in events])

    consumer = Consumer("following", follow, frozenset({"test.happened"}))
    other = await bus.new_tenant()
    with traced():
        with tracing.entered({}, "first", attributes={}):
            await bus.publish()
        await bus.publish(tenant_id=other)
        await Relay(bus.database, [consumer]).step(consumer)
    async with bus.database.system() as session:
        rows = await session.execute(text("SELECT tenant_id, trace FROM event WHERE type = 'test.followed'"))
        traces = {row.tenant_id: row.trace for row in rows}
    assert traces[bus.tenant_id] is not None
    assert traces[other] is None
