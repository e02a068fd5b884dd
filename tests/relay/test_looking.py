"""One look at a large delta for all who stand at its beginning."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.database import TenantSession
from relay import delta
from relay.loop import Relay
from services.events.bus import Consumer
from tests.relay.conftest import Bus, Counting


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[delta.Standing]:
    """From where was looked each time."""
    seen: list[delta.Standing] = []
    look = delta.look

    async def noted(session: AsyncSession, at: delta.Standing) -> delta.Ahead:
        seen.append(at)
        return await look(session, at)

    monkeypatch.setattr(delta, "look", noted)
    return seen


def consumers() -> Sequence[Counting]:
    return [
        Counting("wanted", types=frozenset({"test.wanted"})),
        Counting("other", types=frozenset({"test.other"})),
        Counting("both", types=frozenset({"test.wanted", "test.other"})),
    ]


async def test_who_is_far_behind_shares_a_look_and_gets_its_own(bus: Bus, looks: list[delta.Standing]) -> None:
    readers = consumers()
    await bus.drain(*(reader.consumer for reader in readers))
    await bus.publish(delta.MANY)
    await bus.publish(2, event_type="test.wanted")
    relay = Relay(bus.database, [reader.consumer for reader in readers])
    await asyncio.gather(*(relay.step(reader.consumer, far=True) for reader in readers))
    assert [reader.batches for reader in readers] == [[[0, 1]], [], [[0, 1]]]
    assert len(looks) == 1


async def test_a_look_that_others_had_hides_nothing_that_came_since(bus: Bus, looks: list[delta.Standing]) -> None:
    first, second, third = consumers()
    await bus.drain(first.consumer, second.consumer, third.consumer)
    await bus.publish(delta.MANY)
    relay = Relay(bus.database, [first.consumer, second.consumer])
    assert not await relay.step(first.consumer, far=True)
    await bus.publish(3, event_type="test.other")
    assert await relay.step(second.consumer, far=True), "there may be more"
    assert second.batches == []
    assert await relay.step(second.consumer)
    assert second.batches == [[0, 1, 2]]
    assert len(looks) == 1


async def test_a_look_serves_page_after_page_as_far_as_it_went(
    bus: Bus, looks: list[delta.Standing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "LOOKED", 20)
    reader = Counting("wanted")

    async def concerning(_session: TenantSession, types: frozenset[str]) -> frozenset[str]:
        return types & {"test.wanted"}

    consumer = Consumer("wanted", reader.handle, concerning=concerning)
    await bus.drain(consumer)
    for _ in range(4):
        await bus.publish(5)
        await bus.publish(5, event_type="test.wanted")
    relay = Relay(bus.database, [consumer], page_size=3)
    assert await relay.step(consumer, far=True)
    while await relay.step(consumer):
        pass
    assert [n for batch in reader.batches for n in batch] == [0, 1, 2, 3, 4] * 4
    assert [at.cursor.position is None for at in looks] == [True, False, False]
