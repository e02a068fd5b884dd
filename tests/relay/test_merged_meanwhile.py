"""Events that a consumer got as the loser's, while the loser was merged: it gets them again as the winner's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import insert, select, text

from core.actor import CLI
from core.database import TenantSession
from core.ids import new_id
from models import DeadEvent, OrderFact, Person
from relay.loop import Relay
from services.commerce import order_facts
from services.events.bus import Consumer, EventRow, Handler
from services.events.publish import NewEvent, publish
from services.identity import merging
from tests.relay.conftest import Bus, drain


@dataclass
class Merging:
    """A consumer during whose first batch two people are merged, before or after what it does."""

    bus: Bus
    winner: UUID
    loser: UUID
    handle_inner: Handler
    before: bool = True
    got: list[set[UUID | None]] = field(default_factory=list[set[UUID | None]])

    async def handle(self, session: TenantSession, events: Sequence[EventRow]) -> None:
        self.got.append({event.person_id for event in events})
        if self.before:
            await self._merge()
        await self.handle_inner(session, events)
        if not self.before:
            await self._merge()

    async def _merge(self) -> None:
        if len(self.got) == 1:
            async with self.bus.database.tenant(self.bus.tenant_id) as session:
                await merging.merge(session, self.winner, self.loser, by=CLI)


async def two_people(bus: Bus) -> tuple[UUID, UUID]:
    winner, loser = new_id(), new_id()
    async with bus.database.tenant(bus.tenant_id) as session:
        await session.execute(insert(Person), [{"tenant_id": bus.tenant_id, "id": one} for one in (winner, loser)])
    return winner, loser


async def nothing_parked(bus: Bus) -> bool:
    async with bus.database.tenant(bus.tenant_id) as session:
        return (await session.scalars(select(DeadEvent.id).where(DeadEvent.tenant_id == bus.tenant_id))).all() == []


async def test_a_batch_is_handed_over_again_as_the_winners(bus: Bus) -> None:
    winner, loser = await two_people(bus)

    async def leave_name(session: TenantSession, events: Sequence[EventRow]) -> None:
        for event in events:
            await session.execute(
                text(
                    "INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes)"
                    " VALUES (:tenant, :id, 'thing', :person, 'test.effect', 'system', '{}')"
                ),
                {"tenant": session.tenant_id, "id": new_id(), "person": event.person_id},
            )

    async with bus.database.tenant(bus.tenant_id) as session:
        await publish(session, [NewEvent("a.b", person) for person in (winner, loser, loser)])
    consumer = Merging(bus, winner, loser, leave_name, before=False)
    await drain(Relay(bus.database, []), Consumer("merging", consumer.handle, frozenset({"a.b"})))
    assert consumer.got == [{winner, loser}, {winner}]
    async with bus.database.tenant(bus.tenant_id) as session:
        named = await session.scalars(
            text("SELECT subject_id FROM activity WHERE tenant_id = :tenant AND type = 'test.effect'"),
            {"tenant": bus.tenant_id},
        )
        assert named.all() == [winner] * 3
    assert await nothing_parked(bus)


async def test_a_foreign_key_that_a_merge_broke_parks_nothing(bus: Bus) -> None:
    winner, loser = await two_people(bus)
    async with bus.database.tenant(bus.tenant_id) as session:
        order = {"order_id": "1", "total": "5.00", "currency": "EUR"}
        await publish(session, [NewEvent("order.placed", loser, properties=order)])
    consumer = Merging(bus, winner, loser, order_facts.handle)
    await drain(Relay(bus.database, []), Consumer("merging", consumer.handle, frozenset({"order.placed"})))
    async with bus.database.tenant(bus.tenant_id) as session:
        facts = await session.execute(
            select(OrderFact.person_id, OrderFact.total_minor).where(OrderFact.tenant_id == bus.tenant_id)
        )
        assert [tuple(fact) for fact in facts] == [(winner, 500)]
    assert await nothing_parked(bus)
