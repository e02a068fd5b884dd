"""Parcels: pieces leave the stock once, and the order says how far it is."""

import asyncio
from uuid import UUID, uuid4

import pytest

from core.actor import CLI
from core.database import Database
from core.errors import ConflictError, InvalidError, NotFoundError
from models import Fulfilment, Order
from services.commerce import fulfilments, orders
from services.commerce.fulfilments import NewParcel
from tests.factories.ordering import Ordering


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


async def ship(shop: Ordering, order: UUID, lines: dict[UUID, int] | None = None) -> Fulfilment:
    async with shop.session() as session:
        return await fulfilments.ship(session, order, NewParcel(lines=lines, carrier="DHL"), by=CLI)


async def state(shop: Ordering, order_id: UUID) -> tuple[str, str, list[tuple[int, int]]]:
    async with shop.session() as session:
        order = await orders.get(session, order_id)
        lines = await orders.lines_of(session, order_id)
        return order.status, order.fulfilment_status, [(line.fulfilled, line.released) for line in lines]


async def line_ids(shop: Ordering, order_id: UUID) -> list[UUID]:
    async with shop.session() as session:
        return [line.id for line in await orders.lines_of(session, order_id)]


async def test_parcels_take_pieces_off_the_shelves_until_none_are_left(shop: Ordering) -> None:
    ann, shirt, gift = await shop.person(), await shop.variant(), await shop.variant(tracked=False, pieces=0)
    order = await shop.order({shirt: 3, gift: 1}, person_id=ann)
    shirts, gifts = await line_ids(shop, order)
    assert await shop.levels(shirt) == (10, 3)
    first = await ship(shop, order, {shirts: 2})
    assert await shop.levels(shirt) == (8, 1)
    assert await state(shop, order) == ("placed", "partly_fulfilled", [(2, 0), (0, 0)])
    with pytest.raises(ConflictError, match="only 1 are left"):
        await ship(shop, order, {shirts: 2})
    second = await ship(shop, order)
    assert second.lines == [{"line_id": str(shirts), "quantity": 1}, {"line_id": str(gifts), "quantity": 1}]
    assert await shop.levels(shirt) == (7, 0)
    assert await state(shop, order) == ("completed", "fulfilled", [(3, 0), (1, 0)])
    with pytest.raises(ConflictError, match="Nothing is left"):
        await ship(shop, order)
    for wrong in ({uuid4(): 1}, {shirts: 0}, {}):
        with pytest.raises(InvalidError):
            await ship(shop, order, wrong)
    with pytest.raises(NotFoundError):
        await ship(shop, uuid4())
    async with shop.session() as session:
        once = await fulfilments.deliver(session, first.id, by=CLI)
    async with shop.session() as session:
        again = await fulfilments.deliver(session, first.id, by=CLI)
    assert once.delivered_at is not None
    assert again.delivered_at == once.delivered_at
    told = await shop.events("order.fulfilled", "order.completed", "order.delivered")
    assert [(event.type, event.person_id, event.properties.get("whole")) for event in told] == [
        ("order.fulfilled", ann, False),
        ("order.fulfilled", ann, True),
        ("order.completed", ann, None),
        ("order.delivered", ann, None),
    ]
    assert told[0].properties["items"] == [{"sku": shirt.hex, "name": "Shirt", "quantity": 2, "unit": "10.00"}]
    assert await shop.logged(order) == [
        "order.placed",
        "order.fulfilled",
        "order.fulfilled",
        "order.completed",
        "order.delivered",
    ]


async def test_no_piece_is_sent_twice_by_two_at_once(shop: Ordering) -> None:
    shirt = await shop.variant()
    order = await shop.order({shirt: 2})
    done = await asyncio.gather(*(ship(shop, order) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in done].count(Fulfilment) == 1
    assert await shop.levels(shirt) == (8, 0)


async def test_pieces_given_back_before_they_were_sent_stay_on_the_shelves(shop: Ordering) -> None:
    shirt = await shop.variant()
    order = await shop.order({shirt: 3})
    (shirts,) = await line_ids(shop, order)
    await ship(shop, order, {shirts: 1})
    async with shop.session() as session:
        held: Order = await orders.locked(session, order)
        assert await fulfilments.let_go(session, held, {shirts: 1}, by=CLI) == {}
    assert await shop.levels(shirt) == (9, 1)
    async with shop.session() as session:
        held = await orders.locked(session, order)
        # one was left to be sent; the other had been
        assert await fulfilments.let_go(session, held, {shirts: 2}, by=CLI) == {shirts: 1}
    assert await shop.levels(shirt) == (9, 0)
    assert await state(shop, order) == ("completed", "fulfilled", [(1, 2)])
    with pytest.raises(ConflictError, match="Nothing is left"):
        await ship(shop, order)
