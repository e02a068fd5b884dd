"""Writing clients' events: whom each is about, once per idempotency key, in as few statements as can be.

Events of known people are one prepared statement. All else (unknown or new identifiers, a used key) takes two: one
reads what is stored, one writes; who is given one more identifier is counted between them. Nothing is locked between
them; where another request was faster, a unique or foreign key refuses the second as a whole, and the work is done
again on what is stored now.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from contracts.events import PERSON_CREATED, PERSON_UPDATED
from core.actor import Actor
from core.errors import PlatformError, UnavailableError
from core.ids import new_id, new_ids
from services.events.declared import Misfit, MisfitError
from services.events.incoming import IncomingEvent
from services.events.ingest_sql import BY_ID, BY_IDENTIFIER, DROP_OLDEST, KNOWN, READ, WRITE
from services.identity.resolve import MAX_VISITORS, Directory, Identifier, SeveralPeopleError, primary
from services.identity.resolve_rows import COUNT, LOST_RACE, counted, of_rows

ATTEMPTS: Final = 8
"""A request loses a race at most a few times: what it lost to is stored from then on."""


class Connection(Protocol):
    """What is needed of an asyncpg connection whose tenant is set."""

    async def fetch(self, query: str, /, *arguments: object) -> Sequence[Any]:
        """Run a statement and return its rows."""
        ...

    async def execute(self, query: str, /, *arguments: object) -> object:
        """Run a statement."""
        ...

    def is_in_transaction(self) -> bool:
        """Whether statements are part of a transaction."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Return a transaction, a savepoint within another."""
        ...


Unite = Callable[[Collection[frozenset[UUID]]], Awaitable[bool]]
"""Makes one of each group of people, where it may, and returns whether it did; see `services.identity.anonymous`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event of a batch: it has an id, or an error."""

    id: UUID | None = None
    duplicate: bool = False
    """Its idempotency key was used before; `id` is the first one's."""
    error: PlatformError | None = None


def misfits_of(events: Iterable[IncomingEvent | Outcome]) -> list[Misfit]:
    """Return which of the events differ from what their tenant declares, taken or not."""
    found: list[Misfit] = []
    for event in events:
        if isinstance(event, IncomingEvent):
            found += [] if event.misfit is None else [event.misfit]
        elif isinstance(event.error, MisfitError):
            found.append(event.error.misfit)
    return found


async def accept(
    connection: Connection, tenant_id: UUID, event: IncomingEvent, *, by: Actor, unite: Unite | None = None
) -> UUID:
    """Write one event and return its id: the first one's where its idempotency key was used before.

    `unite` is asked, as in `accept_batch`, to make those one of whom nothing is known.

    Raises:
        InvalidError: there is no person with the id given.
        ConflictError: its identifiers point to two people; both are named.
    """
    if event.person_id is not None and not event.identifiers:
        query, person = BY_ID, (event.person_id,)
    elif event.person_id is None and len(event.identifiers) == 1:
        query, person = BY_IDENTIFIER, event.identifiers[0]
    else:
        query, person = None, ()
    if query is not None:
        values = (event.type, event.properties, event.occurred_at, event.live, event.idempotency_key, *person)
        try:
            async with _apart(connection):
                rows = await connection.fetch(query, tenant_id, new_id(), *values)
        except asyncpg.ForeignKeyViolationError:
            rows: Sequence[Any] = ()  # the person has just been merged into another
        if rows:
            return rows[0]["id"]
    (outcome,) = await accept_batch(connection, tenant_id, [event], by=by, unite=unite)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.id is not None  # noqa: S101 - an outcome without an error has an id
    return outcome.id


async def accept_batch(
    connection: Connection,
    tenant_id: UUID,
    events: Sequence[IncomingEvent],
    *,
    by: Actor,
    unite: Unite | None = None,
) -> list[Outcome]:
    """Write the events in this order, each as if it had come alone; return what became of each.

    Where identifiers point to several people, `unite` may make them one, which is done before the event is written.

    Raises:
        UnavailableError: others changed the same people again and again meanwhile.
    """
    if len(events) > 1 and (known := await _of_known(connection, tenant_id, events)) is not None:
        return known
    done: list[Outcome] = []
    asked: set[frozenset[UUID]] = set()
    end, lost = len(events), 0
    while lost < ATTEMPTS:
        part = events[len(done) : end]
        batch, outcomes = await _decided(connection, tenant_id, part, by)
        if unite is not None:
            conflicts = [
                (number, outcome.error.people)
                for number, outcome in enumerate(outcomes)
                if isinstance(outcome.error, SeveralPeopleError) and outcome.error.people not in asked
            ]
            stored = {people for _, people in conflicts if people.isdisjoint(batch.directory.created)}
            asked |= stored
            if stored and await unite(sorted(stored, key=sorted)):
                continue
            waiting = [number for number, people in conflicts if people not in stored]
            if waiting:
                # Somebody who is only being made: what comes before is written first.
                end = len(done) + waiting[0]
                continue
        try:
            if batch.rows:
                await _write(connection, tenant_id, batch)
        except LOST_RACE:
            lost += 1
            continue
        done += outcomes
        if len(done) == len(events):
            return done
        end = len(events)
    raise UnavailableError("Other requests keep changing the same people; try again in a moment.")


async def _of_known(connection: Connection, tenant_id: UUID, events: Sequence[IncomingEvent]) -> list[Outcome] | None:
    """Write events that name known people by one identifier each; None, and nothing written, where not all do."""
    keys = [event.idempotency_key for event in events if event.idempotency_key is not None]
    if len(set(keys)) < len(keys) or any(e.person_id is not None or len(e.identifiers) != 1 for e in events):
        return None
    ids = new_ids(len(events))
    rows = [
        (event_id, e.type, *e.identifiers[0], e.properties, e.occurred_at, e.live, e.idempotency_key)
        for event_id, e in zip(ids, events, strict=True)
    ]
    try:
        async with _apart(connection):
            written = await connection.execute(KNOWN, tenant_id, *_columns(rows, 8))
    except LOST_RACE:
        return None
    return None if written == "INSERT 0 0" else [Outcome(event_id) for event_id in ids]


async def _decided(
    connection: Connection, tenant_id: UUID, events: Sequence[IncomingEvent], by: Actor
) -> tuple["_Batch", list[Outcome]]:
    """Return what the events come to as things are stored now; nothing is written."""
    directory, keys = await _read(connection, tenant_id, events)
    counts: Mapping[UUID, Mapping[str, int]] = {}
    while True:
        fresh = Directory(directory.people, dict(directory.known), directory.aliases, counts)
        batch = _Batch(fresh, dict(keys), by)
        outcomes = [batch.add(event) for event in events]
        growing = [person for person, added in batch.directory.attached.items() if added and person not in counts]
        if not growing:
            return batch, outcomes
        # Only who is given an identifier can come to have too many.
        people = [*counts, *growing]
        counts = counted(people, await connection.fetch(COUNT, tenant_id, people))


def _apart(connection: Connection) -> AbstractAsyncContextManager[object]:
    """Within a transaction a refused statement would spoil what the caller did before: return a savepoint there."""
    return connection.transaction() if connection.is_in_transaction() else nullcontext()


async def _write(connection: Connection, tenant_id: UUID, batch: "_Batch") -> None:
    async with _apart(connection):
        await connection.execute(WRITE, tenant_id, *batch.arguments())
        crowded = batch.crowded()
        if crowded:
            await connection.execute(DROP_OLDEST, tenant_id, crowded, MAX_VISITORS)


async def _read(
    connection: Connection, tenant_id: UUID, events: Sequence[IncomingEvent]
) -> tuple[Directory, dict[str, UUID]]:
    identifiers = list({identifier for event in events for identifier in event.identifiers})
    rows = await connection.fetch(
        READ,
        tenant_id,
        [kind for kind, _ in identifiers],
        [value for _, value in identifiers],
        list({event.person_id for event in events if event.person_id is not None}),
        list({event.idempotency_key for event in events if event.idempotency_key is not None}),
    )
    keys = {value: found for kind, value, found in rows if kind == "key"}
    return of_rows(row for row in rows if row[0] != "key"), keys


class _Batch:
    """The rows that a batch comes to, in the order of writing."""

    def __init__(self, directory: Directory, keys: dict[str, UUID], by: Actor) -> None:
        self.directory = directory
        self.keys = keys
        self.by = by
        self.rows: list[tuple[IncomingEvent, UUID, UUID]] = []
        self._first: dict[UUID, IncomingEvent] = {}

    def add(self, event: IncomingEvent) -> Outcome:
        key = event.idempotency_key
        if key is not None and key in self.keys:
            return Outcome(self.keys[key], duplicate=True)
        try:
            person_id = self.directory.assign(event.person_id, event.identifiers)
        except PlatformError as error:
            return Outcome(error=error)
        event_id = new_id()
        if key is not None:
            self.keys[key] = event_id
        self._first.setdefault(person_id, event)
        self.rows.append((event, event_id, person_id))
        return Outcome(event_id)

    def crowded(self) -> list[UUID]:
        """Return who has more anonymous ids now than a person may."""
        added = {**self.directory.created, **self.directory.attached}
        return [
            person
            for person, identifiers in added.items()
            if self.directory.counts.get(person, {}).get("anonymous_id", 0)
            + sum(kind == "anonymous_id" for kind, _ in identifiers)
            > MAX_VISITORS
        ]

    def arguments(self) -> tuple[Any, ...]:
        created = self.directory.created
        attached = {person: added for person, added in sorted(self.directory.attached.items()) if added}
        changes = [(PERSON_CREATED, *item) for item in created.items()]
        changes += [(PERSON_UPDATED, *item) for item in attached.items()]
        events = [
            # Whoever an old event makes known starts no journey by it.
            (event_id, type_, person, properties, None, self._first[person].live, None)
            for event_id, (type_, person, properties) in zip(
                new_ids(len(changes)),
                (
                    (type_, person, json.dumps({"fields": list(dict(added))}) if type_ == PERSON_UPDATED else "{}")
                    for type_, person, added in changes
                ),
                strict=True,
            )
        ]
        events += [
            (event_id, e.type, person, e.properties, e.occurred_at, e.live, e.idempotency_key)
            for e, event_id, person in self.rows
        ]
        return (
            *_people(created),
            *_people(attached),
            *_columns(self.directory.additions(), 3),
            self.by.name,
            self.by.request_id,
            new_ids(len(changes)),
            [person for _, person, _ in changes],
            [type_ for type_, _, _ in changes],
            [json.dumps({kind: [None, value] for kind, value in added}) for _, _, added in changes],
            *_columns(events, 7),
        )


def _people(people: dict[UUID, list[Identifier]]) -> list[list[Any]]:
    rows: list[tuple[Any, ...]] = []
    for person, identifiers in people.items():
        first = primary(identifiers)
        rows.append((person, first.get("email"), first.get("phone"), first.get("external_id")))
    return _columns(rows, 4)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
