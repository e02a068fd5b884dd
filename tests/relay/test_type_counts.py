"""Types of events are counted once each, whatever commits when, and however many there are at once."""

from contextlib import AsyncExitStack

import pytest
from sqlalchemy import select

from core.ids import new_id
from models import EventTypeDay
from relay.type_counts import TypeCounter
from services.events.publish import NewEvent, publish
from tests.relay.conftest import Bus


async def counted(bus: Bus) -> dict[str, int]:
    counter = TypeCounter(bus.database)
    while await counter.once():
        pass
    async with bus.database.tenant(bus.tenant_id) as session:
        rows = await session.execute(
            select(EventTypeDay.type, EventTypeDay.events).where(EventTypeDay.tenant_id == bus.tenant_id)
        )
        return {row.type: row.events for row in rows}


async def test_an_event_committed_late_is_counted_late_not_lost(bus: Bus) -> None:
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(bus.database.tenant(bus.tenant_id))
        await publish(slow, [NewEvent("quiz.taken", new_id(), "thing")])
        await bus.publish()
        assert await counted(bus) == {"test.happened": 1}
    assert await counted(bus) == {"test.happened": 1, "quiz.taken": 1}
    assert await counted(bus) == {"test.happened": 1, "quiz.taken": 1}


async def test_many_are_counted_in_pages(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.delta.LOOKED", 7)
    async with bus.database.tenant(bus.tenant_id) as session:
        await publish(session, [NewEvent("quiz.taken", new_id(), "thing") for _ in range(30)])
    counter = TypeCounter(bus.database)
    assert await counter.once()
    await bus.publish()
    assert await counted(bus) == {"quiz.taken": 30, "test.happened": 1}
