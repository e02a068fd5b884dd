"""Orders folded from their events, and what they make of their people."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Person
from services.commerce import order_facts
from services.events.bus import EventRow
from services.events.publish import NewEvent, publish
from services.identity import merging, unmerging

START = datetime(2026, 11, 1, tzinfo=UTC)


class Shop:
    """Order events of one tenant, numbered as the bus would."""

    def __init__(self, database: Database, tenant_id: UUID) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self.position = 0

    async def person(self) -> UUID:
        async with self.database.tenant(self.tenant_id) as session:
            person = Person(tenant_id=self.tenant_id, id=new_id())
            session.add(person)
        return person.id

    def event(
        self,
        kind: str,
        person: UUID | None,
        total: object,
        currency: str = "EUR",
        *,
        hours: int = 0,
        live: bool = True,
        **more: object,
    ) -> EventRow:
        self.position += 1
        return EventRow(
            id=new_id(),
            type=f"order.{kind}",
            subject_type="person",
            subject_id=person or new_id(),
            person_id=person,
            properties={"total": total, "currency": currency, **more},
            occurred_at=START + timedelta(hours=hours),
            received_at=START,
            live=live,
            position=self.position,
        )

    async def handle(self, *events: EventRow) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await order_facts.handle(session, events)

    async def rows(self, query: str) -> Sequence[Any]:
        async with self.database.tenant(self.tenant_id) as session:
            return (await session.execute(text(query), {"tenant": self.tenant_id})).all()

    async def orders(self) -> dict[str, tuple[Any, ...]]:
        """Return total, refunded and whether it counts, of orders that were placed."""
        rows = await self.rows("SELECT * FROM commerce_order_facts WHERE tenant_id = :tenant")
        return {row.order_key: (row.total_minor, row.refunded_minor, row.counts) for row in rows}

    async def stage(self, person: UUID) -> tuple[bool, str]:
        rows = await self.rows("SELECT id, is_customer, lifecycle_stage FROM person WHERE tenant_id = :tenant")
        return next((row.is_customer, row.lifecycle_stage) for row in rows if row.id == person)


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Shop:
    return Shop(database, tenant_id)


async def test_a_placed_order_makes_a_customer_and_a_whole_refund_unmakes_one(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(shop.event("placed", ann, "12.50", order_id="A1"))
    assert await shop.orders() == {"A1": (1250, 0, True)}
    assert await shop.stage(ann) == (True, "customer")
    await shop.handle(shop.event("refunded", ann, "2.50", order_id="A1"))
    assert await shop.orders() == {"A1": (1250, 250, True)}
    assert await shop.stage(ann) == (True, "customer")
    await shop.handle(shop.event("refunded", ann, 10, order_id="A1"))
    assert await shop.orders() == {"A1": (1250, 1250, False)}
    assert await shop.stage(ann) == (False, "visitor")
    changes = await shop.rows(
        "SELECT properties FROM event WHERE tenant_id = :tenant AND type = 'person.stage_changed' ORDER BY position"
    )
    assert [row.properties for row in changes] == [
        {"from": "visitor", "to": "customer"},
        {"from": "customer", "to": "visitor"},
    ]


async def test_the_order_of_events_does_not_matter(shop: Shop) -> None:
    ann = await shop.person()
    for number, arrival in enumerate(permutations(range(4))):
        key = f"A{number}"
        events = [
            shop.event("placed", ann, "10.00", order_id=key, hours=1),
            shop.event("placed", ann, "8.00", order_id=key, hours=2),
            shop.event("refunded", ann, "1.00", order_id=key, hours=3),
            shop.event("refunded", ann, "2.00", order_id=key, hours=4),
        ]
        await shop.handle(*[events[index] for index in arrival[:2]])
        await shop.handle(*[events[index] for index in arrival[2:]])
    assert set((await shop.orders()).values()) == {(800, 300, True)}


async def test_an_order_only_refunded_so_far_is_no_order_yet(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(shop.event("refunded", ann, "5.00", order_id="A1"))
    assert await shop.orders() == {}
    assert await shop.stage(ann) == (False, "visitor")
    await shop.handle(shop.event("placed", ann, "5.00", order_id="A1"))
    assert await shop.orders() == {"A1": (500, 500, False)}
    assert await shop.stage(ann) == (False, "visitor")


async def test_more_than_the_total_cannot_be_refunded(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(
        shop.event("placed", ann, "5.00", order_id="A1"),
        shop.event("refunded", ann, "4.00", order_id="A1"),
        shop.event("refunded", ann, "4.00", order_id="A1"),
        shop.event("placed", ann, "1.00", order_id="A2"),
    )
    assert await shop.orders() == {"A1": (500, 500, False), "A2": (100, 0, True)}
    (totals,) = await shop.rows("SELECT * FROM commerce_customer_totals WHERE tenant_id = :tenant")
    assert (totals.order_count, totals.spent_minor) == (1, 100)


async def test_what_will_never_be_paid_of_a_cancelled_order_counts_as_given_back(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(
        shop.event("placed", ann, "5.00", order_id="A1"),
        shop.event("placed", ann, "5.00", order_id="A2"),
        # was paid: its refund is told by itself
        shop.event("cancelled", ann, "5.00", order_id="A1", unpaid="0.00"),
        shop.event("cancelled", ann, "5.00", order_id="A2", unpaid="5.00"),
        # of a shop that says no more
        shop.event("cancelled", ann, None, order_id="A1"),
    )
    assert await shop.orders() == {"A1": (500, 0, True), "A2": (500, 500, False)}
    await shop.handle(shop.event("refunded", ann, "5.00", order_id="A1"))
    assert await shop.stage(ann) == (False, "visitor")


async def test_orders_without_an_id_are_each_their_own(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(*[shop.event("placed", ann, 1) for _ in range(3)], shop.event("placed", ann, 1, order_id=7))
    orders = await shop.orders()
    assert len(orders) == 4
    assert "7" in orders


async def test_an_order_that_changes_hands_leaves_its_first_person(shop: Shop) -> None:
    ann, bob = await shop.person(), await shop.person()
    await shop.handle(shop.event("placed", ann, 1, order_id="A1"))
    await shop.handle(shop.event("placed", bob, 1, order_id="A1", hours=1))
    assert await shop.stage(ann) == (False, "visitor")
    assert await shop.stage(bob) == (True, "customer")


async def test_a_refund_in_another_currency_is_not_taken_for_one_of_the_order(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(shop.event("placed", ann, 5, order_id="A1"))
    with pytest.raises(ValueError, match="USD of an order in EUR"):
        await shop.handle(shop.event("refunded", ann, 5, "USD", order_id="A1"))
    await shop.handle(shop.event("refunded", ann, 5, "USD", order_id="A2"))
    await shop.handle(shop.event("placed", ann, 5, order_id="A2"))
    assert await shop.orders() == {"A1": (500, 0, True), "A2": (500, 0, True)}


async def test_each_currency_counts_in_its_own_smallest_unit(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(shop.event("placed", ann, 1200, "JPY"), shop.event("placed", ann, "1.234", "KWD"))
    rows = await shop.rows("SELECT currency, spent_minor FROM commerce_customer_totals WHERE tenant_id = :tenant")
    assert {tuple(row) for row in rows} == {("JPY", 1200), ("KWD", 1234)}


async def test_imported_orders_count_without_setting_anything_off(shop: Shop) -> None:
    ann = await shop.person()
    await shop.handle(shop.event("placed", ann, 1, live=False))
    assert await shop.stage(ann) == (True, "customer")
    rows = await shop.rows("SELECT live FROM event WHERE tenant_id = :tenant AND type = 'person.stage_changed'")
    assert [row.live for row in rows] == [False]


async def test_an_event_about_nobody_is_left_alone(shop: Shop) -> None:
    await shop.handle(shop.event("placed", None, 1))
    assert await shop.orders() == {}


async def test_an_order_folded_while_its_buyer_was_merged_goes_back_with_the_buyer(shop: Shop) -> None:
    winner, loser = await shop.person(), await shop.person()
    async with shop.database.tenant(shop.tenant_id) as session:
        placed = {"total": "10", "currency": "EUR", "order_id": "L1"}
        await publish(session, [NewEvent("order.placed", loser, properties=placed, occurred_at=START)])
        merged = await merging.merge(session, winner, loser, by=CLI)
    # the relay comes to the event only now, when it is the winner's
    await shop.handle(
        shop.event("placed", winner, "10", order_id="L1"), shop.event("placed", winner, "5", order_id="W1")
    )
    async with shop.database.tenant(shop.tenant_id) as session:
        await unmerging.undo(session, merged.id, by=CLI)
    assert await shop.stage(loser) == (False, "visitor")
    parted = shop.event("unmerged", winner, 0, winner_id=str(winner), loser_id=str(loser))
    await shop.handle(replace(parted, type="person.unmerged"))
    owners = await shop.rows("SELECT order_key, person_id FROM order_fact WHERE tenant_id = :tenant ORDER BY order_key")
    assert [tuple(row) for row in owners] == [("L1", loser), ("W1", winner)]
    assert [await shop.stage(each) for each in (loser, winner)] == [(True, "customer")] * 2
