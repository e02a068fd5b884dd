"""Whom an event is about, and that it is written once, whoever races."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core.actor import Actor
from core.database import Database
from core.errors import ConflictError, InvalidError
from core.ids import new_id
from services.events import ingest, ingest_sql
from services.events.incoming import IncomingEvent, check
from services.events.ingest import Outcome
from services.identity.resolve import SeveralPeopleError
from services.tenancy import tenants
from tests.services.identity.statements import analyzed

BY = Actor("api_key:test", "request-1")


def about(
    *, person: UUID | None = None, key: str | None = None, backfill: bool = False, **identifiers: str
) -> IncomingEvent:
    return check(
        event_type="test.happened",
        person_id=person,
        identifiers=identifiers,
        properties={"n": 1},
        idempotency_key=key,
        backfill=backfill,
    )


class Client:
    """A tenant's events, sent as the API sends them."""

    def __init__(self, database: Database, tenant_id: UUID) -> None:
        self.database = database
        self.tenant_id = tenant_id

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[ingest.Connection]:
        async with self.database.hot(self.tenant_id) as connection:
            yield cast("ingest.Connection", connection)

    async def send(self, event: IncomingEvent) -> UUID:
        async with self._connection() as connection:
            return await ingest.accept(connection, self.tenant_id, event, by=BY)

    async def send_batch(self, *events: IncomingEvent) -> list[Outcome]:
        async with self._connection() as connection:
            return await ingest.accept_batch(connection, self.tenant_id, events, by=BY)

    async def rows(self, query: str) -> Sequence[Any]:
        async with self.database.tenant(self.tenant_id) as session:
            return (await session.execute(text(query), {"tenant": self.tenant_id})).all()

    async def people(self) -> dict[UUID, set[tuple[str, str]]]:
        people: dict[UUID, set[tuple[str, str]]] = {
            row.id: set() for row in await self.rows("SELECT id FROM person WHERE tenant_id = :tenant")
        }
        for row in await self.rows("SELECT * FROM person_identifier WHERE tenant_id = :tenant"):
            people[row.person_id].add((row.kind, row.value))
        return people

    async def events(self) -> list[tuple[str, UUID]]:
        rows = await self.rows("SELECT type, person_id FROM event WHERE tenant_id = :tenant ORDER BY position")
        return [(row.type, row.person_id) for row in rows]


@pytest.fixture
def client(database: Database, tenant_id: UUID) -> Client:
    return Client(database, tenant_id)


async def test_an_unknown_identifier_makes_the_person_and_says_so(client: Client) -> None:
    await client.send(about(email="ann@shop.example", external_id="7"))
    ((person, identifiers),) = (await client.people()).items()
    assert identifiers == {("email", "ann@shop.example"), ("external_id", "7")}
    assert await client.events() == [("person.created", person), ("test.happened", person)]
    (row,) = await client.rows("SELECT email, phone, external_id FROM person WHERE tenant_id = :tenant")
    assert tuple(row) == ("ann@shop.example", None, "7")
    (log,) = await client.rows("SELECT * FROM activity WHERE tenant_id = :tenant AND subject_type = 'person'")
    assert (log.type, log.subject_id, log.actor, log.request_id) == ("person.created", person, BY.name, BY.request_id)
    assert log.changes == {"email": [None, "ann@shop.example"], "external_id": [None, "7"]}


async def test_a_known_person_is_found_by_any_identifier_or_the_id(client: Client) -> None:
    await client.send(about(email="ann@shop.example", anonymous_id="browser"))
    (person,) = await client.people()
    for event in (
        about(email="ANN@shop.example"),
        about(anonymous_id="browser"),
        about(email="ann@shop.example", anonymous_id="browser"),
        about(person=person),
        about(person=person, email="ann@shop.example"),
    ):
        await client.send(event)
    assert list(await client.people()) == [person]
    assert await client.events() == [("person.created", person), *[("test.happened", person)] * 6]


async def test_a_new_identifier_is_attached_to_the_known_person(client: Client) -> None:
    await client.send(about(anonymous_id="browser"))
    await client.send(about(anonymous_id="browser", email="ann@shop.example"))
    await client.send(about(email="ann@shop.example", phone="+49301234567"))
    await client.send(about(email="second@shop.example", phone="+49301234567"))
    ((person, identifiers),) = (await client.people()).items()
    assert identifiers == {
        ("anonymous_id", "browser"),
        ("email", "ann@shop.example"),
        ("phone", "+49301234567"),
        ("email", "second@shop.example"),
    }
    (row,) = await client.rows("SELECT email, phone FROM person WHERE tenant_id = :tenant")
    assert tuple(row) == ("ann@shop.example", "+49301234567"), "the first address stays the one mail goes to"
    fields = await client.rows(
        "SELECT properties->'fields' FROM event WHERE tenant_id = :tenant AND type = 'person.updated' ORDER BY position"
    )
    assert [row[0] for row in fields] == [["email"], ["phone"], ["email"]]
    assert {found for _, found in await client.events()} == {person}


async def test_identifiers_of_two_people_are_refused_naming_both(client: Client) -> None:
    await client.send(about(email="ann@shop.example"))
    await client.send(about(anonymous_id="browser"))
    people = await client.people()
    before = await client.events()
    for event in (
        about(email="ann@shop.example", anonymous_id="browser"),
        about(email="ann@shop.example", anonymous_id="browser", external_id="new"),
    ):
        with pytest.raises(ConflictError) as refused:
            await client.send(event)
        assert refused.value.extra["person_ids"] == sorted(map(str, people))
        assert all(str(person) in refused.value.errors[0].reason for person in people)
    assert await client.people() == people
    assert await client.events() == before


async def test_an_id_of_nobody_is_refused(client: Client, database: Database) -> None:
    for event in (about(person=uuid4()), about(person=uuid4(), email="ann@shop.example")):
        with pytest.raises(InvalidError) as refused:
            await client.send(event)
        assert refused.value.errors[0].field == "person.id"
    assert await client.people() == {}
    assert database is client.database


async def test_a_person_of_another_tenant_is_nobody(client: Client, database: Database, tenant_id: UUID) -> None:
    async with database.system() as session:
        other = Client(database, (await tenants.create(session, f"other-{uuid4().hex}", "Other")).id)
    await other.send(about(email="ann@shop.example", key="k"))
    (stranger,) = await other.people()
    with pytest.raises(InvalidError):
        await client.send(about(person=stranger))
    await client.send(about(email="ann@shop.example", key="k"))
    assert stranger not in await client.people()
    assert len(await client.events()) == 2, "an idempotency key is the tenant's own"


async def test_a_used_key_gives_the_first_id_and_changes_nothing(client: Client) -> None:
    first = await client.send(about(email="ann@shop.example", key="k"))
    assert await client.send(about(email="ann@shop.example", key="k")) == first
    assert await client.send(about(email="other@shop.example", key="k")) == first
    assert await client.send(about(person=uuid4(), key="k")) == first
    assert len(await client.people()) == 1
    assert len(await client.events()) == 2


async def test_old_news_of_a_stranger_makes_a_person_without_starting_anything(client: Client) -> None:
    await client.send(about(email="ann@shop.example", backfill=True))
    rows = await client.rows("SELECT type, live FROM event WHERE tenant_id = :tenant ORDER BY position")
    assert [tuple(row) for row in rows] == [("person.created", False), ("test.happened", False)]


async def test_a_batch_is_judged_item_by_item_in_order(client: Client) -> None:
    await client.send(about(email="known@shop.example", key="used"))
    (known,) = await client.people()
    outcomes = await client.send_batch(
        about(email="known@shop.example"),
        about(anonymous_id="a"),
        about(email="new@shop.example"),
        about(anonymous_id="a", email="new@shop.example"),
        about(anonymous_id="a", external_id="7", key="twice"),
        about(external_id="7"),
        about(external_id="8", key="twice"),
        about(external_id="9", key="used"),
        about(person=uuid4()),
        about(person=known, phone="+49301234567"),
    )
    assert [(outcome.duplicate, type(outcome.error)) for outcome in outcomes] == [
        (False, type(None)),
        (False, type(None)),
        (False, type(None)),
        (False, SeveralPeopleError),
        (False, type(None)),
        (False, type(None)),
        (True, type(None)),
        (True, type(None)),
        (False, InvalidError),
        (False, type(None)),
    ]
    assert outcomes[6].id == outcomes[4].id
    people = await client.people()
    assert sorted(map(sorted, people.values())) == [
        [("anonymous_id", "a"), ("external_id", "7")],
        [("email", "known@shop.example"), ("phone", "+49301234567")],
        [("email", "new@shop.example")],
    ]
    happened = [person for kind, person in await client.events() if kind == "test.happened"]
    by_size = {frozenset(identifiers): person for person, identifiers in people.items()}
    a = by_size[frozenset({("anonymous_id", "a"), ("external_id", "7")})]
    new = by_size[frozenset({("email", "new@shop.example")})]
    assert happened == [known, known, a, new, a, a, known]


async def test_a_batch_of_known_people_keeps_its_order_and_each_key_once(client: Client) -> None:
    names = ["ann@shop.example", "bob@shop.example"]
    for name in names:
        await client.send(about(email=name))
    before = await client.events()
    first, second = (person for kind, person in before if kind == "test.happened")
    known = [about(email=names[n % 2], key=f"k{n}") for n in range(4)]
    written = await client.send_batch(*known)
    assert (await client.events())[len(before) :] == [("test.happened", each) for each in (first, second) * 2]
    assert [outcome.duplicate for outcome in written] == [False] * 4
    # a key of before, one twice in the batch, a stranger, an id: none of them undoes the others
    mixed = [known[3], about(email=names[0], key="k4"), about(email=names[1], key="k4")]
    again = await client.send_batch(*mixed)
    assert [(outcome.id, outcome.duplicate) for outcome in again] == [
        (written[3].id, True),
        (again[1].id, False),
        (again[1].id, True),
    ]
    (duplicate, _) = await client.send_batch(known[3], about(email=names[0], key="k5"))
    assert (duplicate.id, duplicate.duplicate) == (written[3].id, True)
    await client.send_batch(about(email=names[0]), about(email="cid@shop.example"))
    await client.send_batch(about(email=names[0]), about(person=second))
    assert [kind for kind, _ in await client.events()].count("test.happened") == 2 + 4 + 1 + 1 + 2 + 2
    assert len(await client.people()) == 3


async def test_a_batch_with_nothing_to_write_writes_nothing(client: Client) -> None:
    (outcome,) = await client.send_batch(about(person=uuid4()))
    assert outcome.error is not None
    assert await client.events() == []


async def test_racing_requests_with_one_key_write_one_event(client: Client) -> None:
    await client.send(about(email="ann@shop.example"))
    ids = await asyncio.gather(*(client.send(about(email="ann@shop.example", key="k")) for _ in range(20)))
    assert len(set(ids)) == 1
    assert len(await client.events()) == 3


async def test_racing_requests_about_a_stranger_make_one_person(client: Client) -> None:
    ids = await asyncio.gather(
        *(client.send(about(email="ann@shop.example")) for _ in range(15)),
        *(client.send(about(email="ann@shop.example", key="k")) for _ in range(5)),
    )
    assert len(set(ids)) == 16
    assert len(await client.people()) == 1
    events = await client.events()
    assert [kind for kind, _ in events].count("person.created") == 1
    assert len(events) == 17


async def test_racing_batches_that_name_the_same_strangers_agree_who_they_are(client: Client) -> None:
    names = [f"p{n}@shop.example" for n in range(40)]
    batches = [
        [about(email=name, key=f"{name}-{turn % 2}") for name in order]
        for turn, order in enumerate([names, names[::-1], names[::2] + names[1::2], names[::-2]])
    ]
    outcomes = await asyncio.gather(*(client.send_batch(*batch) for batch in batches))
    assert all(outcome.error is None for batch in outcomes for outcome in batch)
    people = await client.people()
    assert sorted(value for identifiers in people.values() for _, value in identifiers) == sorted(names)
    assert [kind for kind, _ in await client.events()].count("test.happened") == len(
        {event.idempotency_key for batch in batches for event in batch}
    )


class Overtaken:
    """A connection on which another request is faster once, after the first reading, or before the first `query`."""

    def __init__(
        self, connection: ingest.Connection, other: Callable[[], Awaitable[object]], query: str | None = None
    ) -> None:
        self.connection = connection
        self.other: Callable[[], Awaitable[object]] | None = other
        self.query = query
        self.sent: list[str] = []

    async def fetch(self, query: str, /, *arguments: object) -> Sequence[Any]:
        self.sent.append(query)
        found = await self.connection.fetch(query, *arguments)
        if self.query is None:
            await self._overtake()
        return found

    async def execute(self, query: str, /, *arguments: object) -> object:
        self.sent.append(query)
        if query == self.query:
            await self._overtake()
        return await self.connection.execute(query, *arguments)

    async def _overtake(self) -> None:
        other, self.other = self.other, None
        if other is not None:
            await other()

    def is_in_transaction(self) -> bool:
        return self.connection.is_in_transaction()

    def transaction(self) -> AbstractAsyncContextManager[object]:
        return self.connection.transaction()


async def test_within_a_transaction_a_lost_race_spoils_nothing(client: Client, database: Database) -> None:
    """As for a request with an Idempotency-Key, whose claim is in the same transaction."""
    ann = about(email="ann@shop.example")
    async with database.tenant(client.tenant_id) as session:
        await session.execute(text("SELECT 1"))
        raw = cast("ingest.Connection", (await (await session.connection()).get_raw_connection()).driver_connection)
        overtaken = Overtaken(raw, lambda: client.send(ann))
        (outcome,) = await ingest.accept_batch(overtaken, client.tenant_id, [ann], by=BY)
        assert outcome.error is None
        (person,) = await client.people()
        assert len(await client.events()) == 2, "nothing is seen before the commit"
    assert await client.events() == [("person.created", person), *[("test.happened", person)] * 2]


async def test_events_of_known_people_are_one_statement_and_all_or_none_of_them(
    client: Client, database: Database
) -> None:
    ann = about(email="ann@shop.example", key="k1")
    await client.send(about(email="ann@shop.example"))
    async with database.hot(client.tenant_id) as connection:
        alone = Overtaken(cast("ingest.Connection", connection), lambda: client.send(ann), ingest_sql.KNOWN)
        outcomes = await ingest.accept_batch(alone, client.tenant_id, [about(email="ann@shop.example"), ann], by=BY)
    # the other was faster with the key of the second, whom the statement then finds
    assert [outcome.duplicate for outcome in outcomes] == [False, True]
    assert alone.sent[0] == ingest_sql.KNOWN
    assert len(alone.sent) > 1
    assert [kind for kind, _ in await client.events()].count("test.happened") == 3
    async with database.hot(client.tenant_id) as connection:
        quick = Overtaken(cast("ingest.Connection", connection), client.events)
        await ingest.accept_batch(quick, client.tenant_id, [about(email="ann@shop.example")] * 2, by=BY)
    assert quick.sent == [ingest_sql.KNOWN]


async def test_hot_statements_find_their_rows_by_index_as_the_application_s_role(
    client: Client, database: Database, database_url: str
) -> None:
    for part in range(5):
        await client.send_batch(*(about(email=f"p{part}-{n}@shop.example", key=f"{part}-{n}") for n in range(1_000)))
    await analyzed(database_url, "event", "person", "person_identifier")
    one = (client.tenant_id, new_id(), "a.b", "{}", datetime.now(UTC), True, "key")
    read = (client.tenant_id, ["email"] * 3, ["a", "b", "c"], [uuid4()], ["k1", "k2"])
    statements: list[tuple[str, tuple[object, ...], set[str]]] = [
        (ingest_sql.BY_ID, (*one, uuid4()), {"person_pkey"}),
        (ingest_sql.BY_IDENTIFIER, (*one, "email", "ann@shop.example"), {"person_identifier_pkey"}),
        (
            ingest_sql.KNOWN,
            (
                client.tenant_id,
                [new_id()],
                ["a.b"],
                ["email"],
                ["a"],
                ["{}"],
                [datetime.now(UTC)],
                [True],
                ["k"],
            ),
            {"person_identifier_pkey", "event_idempotency_idx"},
        ),
        (ingest_sql.READ, read, {"person_identifier_pkey", "person_pkey", "event_idempotency_idx"}),
    ]
    async with database.hot(client.tenant_id) as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")  # tables of a dozen rows are rightly read whole
        for query, arguments, indexes in statements:
            plan = (await connection.fetch("EXPLAIN (FORMAT JSON) " + query, *arguments))[0][0]
            assert {name for name in indexes if f'"{name}"' in plan} == indexes, plan
            assert "Seq Scan" not in plan
