"""One look at the bus for all who ask at a moment."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any, get_args

import pytest

from core.database import Database
from core.ids import new_id
from models import ScoreRule, Segment, WebhookEndpoint
from relay import delta
from relay.loop import Relay
from relay.peeking import Peeks
from services.events.bus import Consumer, OnlyWith
from tests.eventually import eventually
from tests.relay.conftest import Bus, Counting


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """For whom was looked each time."""
    seen: list[list[str]] = []
    look = delta.peek

    async def noted(database: Database, consumers: Collection[Consumer]) -> dict[str, bool]:
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


THINGS: dict[OnlyWith, Any] = {
    "score_rule": ScoreRule(key="rule", name="Rule", condition={}, points=1),
    "segment": Segment(key="static", name="Static", kind="static"),
    "webhook_endpoint": WebhookEndpoint(url="https://shop.example", event_types=["*"], secret=b"sealed"),
}


@pytest.mark.parametrize("table", get_args(OnlyWith))
async def test_nobody_is_woken_for_tenants_who_have_nothing_of_the_kind(bus: Bus, table: OnlyWith) -> None:
    consumer = replace(Counting("of some").consumer, only_with=table)
    everybody = Counting("of all").consumer
    await bus.drain(consumer, everybody)
    peeks = Peeks(bus.database)
    other = await bus.new_tenant()
    async with bus.database.tenant(other) as session:
        thing = THINGS[table]
        thing.tenant_id, thing.id = other, new_id()
        session.add(thing)

    async def woken() -> list[bool]:
        return list(await asyncio.gather(*map(peeks.worthwhile, (consumer, everybody))))

    await bus.drain(consumer, everybody)
    await bus.publish()
    assert await woken() == [False, True]
    await bus.publish(tenant_id=other)
    assert await woken() == [True, True]
    await bus.drain(consumer)
    assert await bus.effects() == [0], "those of the first tenant are come by with the others"
