"""What a segment asks of people is followed whichever way it changes, and in whatever order consumers read the bus."""

from collections.abc import Awaitable, Callable

import pytest

from core.actor import CLI
from services.commerce import order_facts
from services.identity import consent, merging, people, unmerging
from services.identity.consent import Choice
from services.identity.people import PersonChange
from services.marketing.segments import realtime
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments, happened

Handle = Callable[..., Awaitable[None]]


@pytest.fixture
def segments(marketing: Marketing) -> Segments:
    return Segments(marketing)


async def test_who_is_qualified_without_another_stage_is_followed(segments: Segments) -> None:
    (ann,) = await segments.marketing.people()
    await segments.publish(happened("order.placed", ann, total="10.00", currency="EUR"))
    await segments.relay()
    await segments.add("chosen", {"field": "person.qualified_at", "op": "exists"})
    async with segments.session() as session:
        assert (await people.update(session, ann, PersonChange(qualified=True), by=CLI)).lifecycle_stage == "customer"
    await segments.relay()
    assert await segments.members("chosen") == {ann}


async def test_a_change_of_stage_alone_is_a_change_of_the_person(segments: Segments) -> None:
    (ann,) = await segments.marketing.people(consent=False)
    async with segments.marketing.superuser() as connection:
        await connection.execute(
            "UPDATE person SET updated_at = '2020-01-01Z' WHERE tenant_id = $1", segments.tenant_id
        )
    await segments.add("touched", {"field": "person.updated_at", "op": "newer_than", "value": "P1D"})
    assert await segments.members("touched") == set()
    async with segments.session() as session:
        await consent.choose(session, ann, [Choice("email", "news", "opted_in")], by=CLI)
    await segments.relay()
    assert await segments.members("touched") == {ann}


async def handle_all(segments: Segments, after: int, *handlers: Handle) -> int:
    """Have these read the bus one after the other, each whatever is there for it; return how far it went."""
    events = await segments.events(after=after)
    for handler in handlers:
        async with segments.session() as session:
            wanted = order_facts.CONSUMER.types if handler is order_facts.handle else None
            await handler(session, [each for each in events if wanted is None or each.type in wanted])
    return events[-1].position if events else after


async def test_orders_given_back_after_a_merge_are_followed_though_others_read_first(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await segments.add("buyers", {"related": "order"})
    await segments.publish(happened("order.placed", bob, total="10.00", currency="EUR"))
    async with segments.session() as session:
        merged = await merging.merge(session, ann, bob, by=CLI)
    await segments.relay()  # only now the order is folded
    assert await segments.members("buyers") == {ann}
    async with segments.session() as session:
        await unmerging.undo(session, merged.id, by=CLI)
    position = await handle_all(segments, segments.position, realtime.handle, order_facts.handle)
    await handle_all(segments, position, realtime.handle)
    assert await segments.members("buyers") == {bob}
