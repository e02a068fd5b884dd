"""A bus with nothing on it, and what the relay's tests do to it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import logging
from core.database import Database, TenantSession
from core.ids import new_id
from relay.loop import Relay
from services.events.bus import Consumer, EventRow
from services.events.publish import NewEvent, publish
from services.tenancy import tenants


async def drain(relay: Relay, consumer: Consumer) -> None:
    """Feed a consumer until it has nothing left."""
    for _ in range(1_000):
        if not await relay.step(consumer):
            return
    pytest.fail("there is no end to it")


@dataclass(slots=True)
class Bus:
    """An empty database with a tenant."""

    database: Database
    url: str
    tenant_id: UUID

    async def new_tenant(self) -> UUID:
        async with self.database.system() as session:
            return (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id

    async def publish(
        self,
        count: int = 1,
        *,
        event_type: str = "test.happened",
        tenant_id: UUID | None = None,
    ) -> None:
        """Commit events numbered from 0 on."""
        async with self.database.tenant(tenant_id or self.tenant_id) as session:
            await publish(session, [NewEvent(event_type, new_id(), "thing", properties={"n": n}) for n in range(count)])

    async def drain(self, *consumers: Consumer, page_size: int = 2_000) -> None:
        """Feed the consumers until none has anything left."""
        relay = Relay(self.database, consumers, page_size=page_size)
        for consumer in consumers:
            await drain(relay, consumer)

    async def effects(self) -> list[int]:
        """Return the numbers of the events that `Counting` has handled, in order, as committed."""
        async with self.database.tenant(self.tenant_id) as session:
            rows = await session.execute(
                text(
                    "SELECT changes->'n' FROM activity WHERE tenant_id = :tenant AND type = 'test.effect' ORDER BY id"
                ),
                {"tenant": self.tenant_id},
            )
            return [int(n) for n in rows.scalars()]


@pytest.fixture(autouse=True, scope="session")
def logs() -> None:
    """As in a process of ours; structlog's own default takes seconds to draw a traceback."""
    logging.configure("WARNING")


@pytest.fixture
async def bus(empty_database_url: str) -> AsyncGenerator[Bus]:
    database = Database(empty_database_url)
    bus = Bus(database, empty_database_url, UUID(int=0))
    bus.tenant_id = await bus.new_tenant()
    yield bus
    await database.close()


async def leave_effect(session: TenantSession, event: EventRow) -> None:
    await session.execute(
        text("""
            INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes)
            VALUES (:tenant, :id, 'thing', :subject, 'test.effect', 'system', jsonb_build_object('n', CAST(:n AS int)))
        """),
        {"tenant": session.tenant_id, "id": new_id(), "subject": event.subject_id, "n": event.properties["n"]},
    )


@dataclass(slots=True)
class Counting:
    """A consumer that leaves one effect per event; `before` runs first and may raise."""

    name: str = "counting"
    types: frozenset[str] | None = None
    before: Callable[[TenantSession, EventRow], Awaitable[None]] | None = None
    batches: list[list[int]] = field(default_factory=list[list[int]])

    async def handle(self, session: TenantSession, events: Sequence[EventRow]) -> None:
        self.batches.append([event.properties["n"] for event in events])
        for event in events:
            if self.before is not None:
                await self.before(session, event)
            await leave_effect(session, event)

    @property
    def consumer(self) -> Consumer:
        return Consumer(self.name, self.handle, self.types)
