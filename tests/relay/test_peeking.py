"""One look at the bus for all who ask at a moment."""

import asyncio
from collections.abc import Collection

import pytest

from core.database import Database
from relay import delta
from relay.loop import Relay
from relay.peeking import Peeks
from services.events.bus import Consumer
from tests.eventually import eventually
from tests.relay.conftest import Bus, Counting


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """For whom was looked each time."""
    seen: list[list[str]] = []
    look = delta.peek

    async def noted(database: Database, consumers: Collection[Consumer]) -> frozenset[str]:
        seen.append([consumer.name for consumer in consumers])
        return await look(database, consumers)

    monkeypatch.setattr(delta, "peek", noted)
    return seen


async def test_those_who_ask_together_share_a_look_and_get_their_own_answer(bus: Bus, looks: list[list[str]]) -> None:
    consumers = [
        Counting("all").consumer,
        Counting("some", types=frozenset({"test.happened", "test.seen"})).consumer,
        Counting("other", types=frozenset({"test.seen"})).consumer,
    ]
    peeks = Peeks(bus.database)

    async def asked() -> list[bool]:
        return list(await asyncio.gather(*(peeks.worthwhile(consumer) for consumer in consumers)))

    assert await asked() == [True, True, True], "who is new has not looked at all"
    await bus.drain(*consumers)
    assert await asked() == [False, False, False]
    await bus.publish()
    assert await asked() == [True, True, False]
    assert looks == [["all", "some", "other"]] * 3


async def test_who_asks_later_is_not_answered_by_an_earlier_look(bus: Bus, looks: list[list[str]]) -> None:
    consumer = Counting().consumer
    await bus.drain(consumer)
    peeks = Peeks(bus.database)
    first = asyncio.create_task(peeks.worthwhile(consumer))

    async def looked() -> bool:
        return bool(looks)

    await eventually(looked)
    await bus.publish()
    assert await peeks.worthwhile(consumer)
    await first
    assert len(looks) == 2


async def test_a_look_that_fails_lets_the_others_see_for_themselves(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> frozenset[str]:
        raise OSError("gone")

    monkeypatch.setattr(delta, "peek", fail)
    peeks = Peeks(bus.database)
    consumers = [Counting("first").consumer, Counting("second").consumer]
    answers = await asyncio.gather(*map(peeks.worthwhile, consumers), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError, bool]
    assert answers[1] is True


async def test_who_wants_none_of_many_events_passes_them_once(bus: Bus) -> None:
    consumer = Counting("other", types=frozenset({"test.seen"})).consumer
    await bus.drain(consumer)
    peeks = Peeks(bus.database)
    await bus.publish(delta.MANY - 1)
    assert not await peeks.worthwhile(consumer)
    await bus.publish()
    assert await peeks.worthwhile(consumer)
    await Relay(bus.database, [consumer]).step(consumer)
    assert not await peeks.worthwhile(consumer)
