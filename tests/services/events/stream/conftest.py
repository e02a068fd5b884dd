"""A hub, and what happens on the bus while it is listened to."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.tokens import Tokens
from services.events.publish import NewEvent, publish
from services.events.stream.hub import Hub
from services.events.stream.listening import StreamEvent, Subject
from tests.eventually import PATIENCE


@dataclass(slots=True)
class Heard:
    """What somebody who listens was told so far."""

    events: list[StreamEvent] = field(default_factory=list[StreamEvent])
    error: Exception | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    @property
    def numbers(self) -> list[int]:
        return [heard.event.properties["n"] for heard in self.events]

    async def until(self, enough: Callable[["Heard"], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough(self):
                self._more.clear()
                await self._more.wait()

    async def count(self, count: int) -> list[int]:
        """Wait for so many; return the numbers of all there are by then."""
        await self.until(lambda heard: len(heard.events) >= count)
        return self.numbers

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, told: AsyncGenerator[StreamEvent]) -> None:
        self._task = asyncio.create_task(self._listen(told))

    async def _listen(self, told: AsyncGenerator[StreamEvent]) -> None:
        try:
            async with aclosing(told):
                async for event in told:
                    self.events.append(event)
                    self._more.set()
        except Exception as error:  # noqa: BLE001 - for the test to look at
            self.error = error
        self.ready.set()
        self._more.set()


@dataclass(slots=True)
class Stream:
    """A hub and a tenant."""

    hub: Hub
    database: Database
    tenant_id: UUID
    heard: list[Heard] = field(default_factory=list[Heard])

    async def listen(
        self,
        *types: str,
        subject: Subject | None = None,
        after: str | None = None,
        hub: Hub | None = None,
        tenant_id: UUID | None = None,
    ) -> Heard:
        """Listen, and return once nothing committed from now on can be missed."""
        heard = Heard()
        self.heard.append(heard)
        told = (hub or self.hub).listen(
            tenant_id or self.tenant_id, types or ("*",), subject, after, on_ready=heard.ready.set
        )
        heard.listen(told)
        async with asyncio.timeout(PATIENCE):
            await heard.ready.wait()
        return heard

    async def publish(
        self,
        *numbers: int,
        event_type: str = "test.happened",
        tenant_id: UUID | None = None,
        subject: Subject | None = None,
    ) -> None:
        """Commit events of one subject with these numbers."""
        subject_type, subject_id = subject or ("thing", new_id())
        async with self.database.tenant(tenant_id or self.tenant_id) as session:
            events = [NewEvent(event_type, subject_id, subject_type, properties={"n": n}) for n in numbers]
            await publish(session, events)


@pytest.fixture
async def stream(database: Database, tenant_id: UUID, tokens: Tokens) -> AsyncGenerator[Stream]:
    stream = Stream(Hub(database, tokens, page_size=20, poll_seconds=60), database, tenant_id)
    yield stream
    for heard in stream.heard:
        await heard.stop()
    await stream.hub.close()


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings.secret_key.get_secret_value())
