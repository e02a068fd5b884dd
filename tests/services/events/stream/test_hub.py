"""Listening: each event once, in order, whatever commits when and whoever comes, goes and comes back."""

import asyncio
import json
import random
from collections import defaultdict
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.database import Database
from core.errors import InvalidError, TooManyRequestsError, UnavailableError
from core.ids import new_id
from core.tokens import Tokens
from services.events.publish import NewEvent, publish
from services.events.reading import Cursor
from services.events.stream import hub as hubs
from services.events.stream import listening, rows
from services.events.stream.hub import Hub
from services.events.stream.listening import PlaceLostError, Wanted
from services.events.stream.places import Places
from tests.factories.marketing import Marketing
from tests.services.events.stream.conftest import Stream

pytestmark = pytest.mark.made_up_events


async def test_what_is_committed_while_somebody_listens_is_told_at_once(stream: Stream) -> None:
    await stream.publish(1)
    heard = await stream.listen()
    await stream.publish(2, 3)
    assert await heard.count(2) == [2, 3]
    told = json.loads(heard.events[0].told)
    assert told["id"] == str(heard.events[0].event.id)
    assert told["type"] == "test.happened"
    assert told["data"]["subject"] == {"type": "thing", "id": str(heard.events[0].event.subject_id)}
    frame = heard.events[0].frame.decode()
    assert frame == f"id: {heard.events[0].token}\nevent: test.happened\ndata: {heard.events[0].told}\n\n"


async def test_another_tenant_s_events_are_never_told(stream: Stream, other_tenant: Marketing) -> None:
    mine, theirs = await stream.listen(), await stream.listen(tenant_id=other_tenant.tenant_id)
    for n in range(10):
        await stream.publish(n, tenant_id=stream.tenant_id if n % 2 else other_tenant.tenant_id)
    assert await mine.count(5) == [1, 3, 5, 7, 9]
    assert await theirs.count(5) == [0, 2, 4, 6, 8]
    again = await stream.listen(after=mine.events[0].token, tenant_id=other_tenant.tenant_id)
    assert await again.count(4) == [2, 4, 6, 8], "a place is a place on the bus: it gives nobody another's events"


async def test_types_and_subject_are_told_the_same_live_and_afterwards(stream: Stream) -> None:
    person, deal = new_id(), new_id()
    async with stream.database.tenant(stream.tenant_id) as session:
        await session.execute(
            text("INSERT INTO person (tenant_id, id) VALUES (:tenant, :id)"),
            {"tenant": stream.tenant_id, "id": person},
        )
    everything = await stream.listen()
    await stream.publish(0)
    await everything.count(1)
    filters = [
        (("deal.*",), None, [3, 4]),
        (("deal.won", "test.happened"), None, [2, 4, 5]),
        (("*",), ("person", person), [1, 4]),
        (("deal.*",), ("person", person), [4]),
        (("*",), ("deal", deal), [3, 4]),
    ]
    live = [await stream.listen(*types, subject=subject) for types, subject, _ in filters]
    await stream.publish(1, event_type="order.placed", subject=("person", person))
    await stream.publish(2)
    await stream.publish(3, event_type="deal.created", subject=("deal", deal))
    async with stream.database.tenant(stream.tenant_id) as session:
        await publish(session, [NewEvent("deal.won", deal, "deal", person_id=person, properties={"n": 4})])
    await stream.publish(5)
    await everything.count(6)
    later = [
        await stream.listen(*types, subject=subject, after=everything.events[0].token) for types, subject, _ in filters
    ]
    for now, then, (_, _, numbers) in zip(live, later, filters, strict=True):
        assert await now.count(len(numbers)) == numbers
        assert await then.count(len(numbers)) == numbers


async def test_nothing_is_lost_or_doubled_over_reconnects_while_transactions_race(
    stream: Stream, database: Database, tokens: Tokens
) -> None:
    """Listeners leave at any event and come back, to this process or another, while commits cross each other."""
    other = Hub(database, tokens, page_size=7, poll_seconds=60)
    committed: dict[UUID, list[int]] = defaultdict(list)
    subjects = [new_id() for _ in range(8)]
    chance = random.Random(11)

    async def write(subject: UUID) -> None:
        for _ in range(25):
            async with database.tenant(stream.tenant_id) as session:
                numbers = [len(committed[subject]) + n for n in range(chance.randint(1, 3))]
                for n in numbers:
                    await publish(session, [NewEvent("test.happened", subject, "thing", properties={"n": n})])
                    await asyncio.sleep(chance.random() / 200)
            committed[subject] += numbers

    async def listen(hub: Hub) -> dict[UUID, list[int]]:
        heard: dict[UUID, list[int]] = defaultdict(list)
        after = begun
        while True:
            patience = chance.randint(1, 40)
            async for told in hub.listen(stream.tenant_id, after=after):
                if told.event.type == "test.over":
                    return heard
                heard[told.event.subject_id].append(told.event.properties["n"])
                after = told.token
                patience -= 1
                if not patience:
                    break
            hub = other if hub is stream.hub else stream.hub

    first = await stream.listen()
    await stream.publish(-1)
    await first.count(1)
    begun = first.events[0].token
    listeners = [asyncio.create_task(listen(hub)) for hub in (stream.hub, other, stream.hub)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(write(subject) for subject in subjects))
        await stream.publish(0, event_type="test.over")
        for heard in await asyncio.gather(*listeners):
            assert heard == committed
    await other.close()


async def test_who_is_too_slow_goes_on_by_itself_and_misses_nothing(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MAX_WAITING", 10)
    quick = await stream.listen()
    with stream.hub.listening(stream.tenant_id, Wanted(), None) as slow:
        batches = slow.batches()
        assert await anext(batches) == []
        await stream.publish(*range(25))
        await quick.count(25)
        await stream.publish(*range(25, 60))
        await quick.count(60)
        heard: list[int] = []
        async for batch in batches:
            assert len(batch) <= 20, "what waits for a slow one is bounded"
            heard += [told.event.properties["n"] for told in batch]
            if len(heard) == 60:
                break
        assert heard == list(range(60))
        await batches.aclose()


async def test_a_place_too_far_back_and_one_of_another_cluster_are_said_to_be_lost(
    stream: Stream, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tokens)
    heard = await stream.listen()
    await stream.publish(1)
    await heard.count(1)
    foreign = await stream.listen(after=places.token(Cursor("900000000:900000000:", None, 1)))
    assert isinstance(foreign.error, PlaceLostError)
    await stream.publish(*range(2, 30))
    await heard.count(29)
    monkeypatch.setattr(hubs, "LOOK_BACK", 20)
    old = await stream.listen(after=heard.events[0].token)
    assert isinstance(old.error, PlaceLostError)


async def test_a_store_restored_while_somebody_listens_has_them_begin_anew(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = await stream.listen()
    read = rows.of_tenants

    async def restored(*_: object) -> rows.Found:
        """As of a cluster whose transactions have not come so far."""
        monkeypatch.setattr(rows, "of_tenants", read)
        return rows.Found([], "3:3:", None, more=False)

    monkeypatch.setattr(rows, "of_tenants", restored)
    await stream.publish(1)
    await heard.until(lambda heard: heard.error is not None)
    assert isinstance(heard.error, PlaceLostError)


@pytest.mark.parametrize("token", ["", "x", "AAAA", "é", "AQ" * 40])
def test_a_made_up_place_is_refused(stream: Stream, token: str) -> None:
    with pytest.raises(InvalidError):
        stream.hub.place(token)


@pytest.mark.parametrize(
    "cursor",
    [
        Cursor("1:1:", None, 0),
        Cursor("745:745:", "745:760:745,750,759", 12_345_678_901),
        Cursor("5000000000:5000000300:5000000000,5000000299", "5000000001:5000000400:5000000399", 3),
    ],
)
def test_a_place_is_read_as_it_was_written(tokens: Tokens, cursor: Cursor) -> None:
    places = Places(tokens)
    assert places.read(places.token(cursor)) == cursor


async def test_there_is_room_for_so_many_of_a_tenant_and_at_all(
    database: Database, tokens: Tokens, tenant_id: UUID, other_tenant: Marketing
) -> None:
    hub = Hub(database, tokens, per_tenant=1, in_all=2)
    with hub.listening(tenant_id, Wanted(), None), hub.listening(other_tenant.tenant_id, Wanted(), None):
        with pytest.raises(TooManyRequestsError), hub.listening(tenant_id, Wanted(), None):
            pass
        with pytest.raises(UnavailableError), hub.listening(new_id(), Wanted(), None):
            pass
    with hub.listening(tenant_id, Wanted(), None):
        pass
    await hub.close()
    with pytest.raises(UnavailableError), hub.listening(tenant_id, Wanted(), None):
        pass


async def test_closing_ends_who_listens(stream: Stream) -> None:
    heard = await stream.listen()
    await stream.publish(1)
    await heard.count(1)
    await stream.hub.close()
    await heard.stop()
    assert heard.error is None
    assert heard.numbers == [1]


async def test_an_outage_of_the_store_is_waited_out(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = await stream.listen()
    failed = asyncio.Event()

    async def fail(*_: object) -> rows.Found:
        failed.set()
        raise OSError("no connection")

    with monkeypatch.context() as broken:
        broken.setattr(rows, "of_tenants", fail)
        await stream.publish(1)
        await failed.wait()
    await stream.publish(2)
    assert await heard.count(2) == [1, 2]


async def test_events_are_found_by_index_as_each_role(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    owner = await asyncpg.connect(empty_database_url)
    tenant_id = new_id()
    await owner.execute("INSERT INTO tenant (id, key, name) VALUES ($1, 'a', 'A')", tenant_id)
    async with database.tenant(tenant_id) as session:
        events = [NewEvent("test.happened", new_id(), "thing", properties={"n": n}) for n in range(10_000)]
        await publish(session, events)
    async with database.tenant(tenant_id) as session:
        await publish(session, events[:1])
    await owner.execute("ANALYZE event")
    seen, newest = await owner.fetchrow("SELECT max(xid::text::bigint), max(position) FROM event") or (0, 0)
    snapshots = (f"{seen}:{seen}:", f"{seen + 2}:{seen + 2}:")
    await owner.close()
    one = (tenant_id, 1_000, ["test.happened"], ["deal"], "person", new_id())
    async with database.hot_system() as connection:
        await _reads(connection, "event_xid_idx", rows.NOW, snapshots[0], [tenant_id], 1_000)
        await _reads(connection, "event_position_idx", rows.ON, *snapshots, newest - 100, [tenant_id], 1_000)
    async with database.hot(tenant_id) as connection:
        await _reads(connection, "event_xid_idx", rows.BEGUN, *snapshots, None, *one)
        await _reads(connection, "event_position_idx", rows.CONTINUED, *snapshots, newest - 100, *one)
    await database.close()


async def _reads(connection: "rows.Connection", index: str, query: str, *arguments: object) -> None:
    plan = str(await connection.fetchval("EXPLAIN (FORMAT JSON) " + query, *arguments))
    assert index in plan
    assert "Seq Scan" not in plan
