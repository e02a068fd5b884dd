"""What made users leave other systems over their shop must not happen here: complaint 25, in its parts.

As in `test_peers`: carts by the API, with real workflows; the crowd of buyers runs the same steps without Temporal,
which only orders them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import func, insert, select
from temporalio.service import RPCError

from activities.checkout import CheckoutActivities
from contracts.checkout import PAYMENT_CHANGED, Attempt, CheckoutInput, ReserveRequest
from core.actor import SYSTEM
from core.ids import new_ids
from core.settings import Settings
from integrations.payments.port import State
from models import Cart, CartLine, Order
from services.commerce import undoing, watching
from tests.eventually import eventually
from tests.factories.checking_out import Till, till
from tests.factories.running import Platform

BUYERS = 200
PIECES = 100
AT_ONCE = 16


@pytest.fixture
async def shop(running: Platform, settings: Settings, client: AsyncClient) -> AsyncGenerator[Till]:
    marketing = running.marketing
    async with till(marketing.database, settings, marketing.tenant_id, client, running.client) as made:
        yield made
        await made.check()


async def test_25_a_notice_that_races_the_checkout_repeats_or_comes_late_changes_nothing(shop: Till) -> None:
    """Saleor and Medusa: the gateway's webhook and the checkout each made an order, or neither did."""
    await shop.stock(2)
    cart_id = await shop.fill()
    assert (await shop.buy(cart_id, "action")).json()["status"] == "action_required"
    [payment] = await shop.payments(cart_id)
    gateway_id = payment.gateway_id
    assert gateway_id is not None
    handle = shop.handle(cart_id)

    async def notice(state: State) -> None:
        async with shop.session() as session:
            await undoing.told(session, payment.id, state, gateway_id=gateway_id, by=SYSTEM)
        try:
            await handle.signal(PAYMENT_CHANGED)
        except RPCError:
            return  # the workflow has ended: the notice is late

    taken, held, waiting = State("captured", 1_000), State("authorized"), State("action_required")
    told = [notice(state) for state in (held, waiting, held, taken, waiting, held, taken)]
    answers, _ = await asyncio.gather(
        asyncio.gather(*(shop.buy(cart_id, "action") for _ in range(4))), asyncio.gather(*told)
    )
    orders = {answer.json()["id"] for answer in answers if answer.status_code in {200, 201}}
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    order_id = str((await eventually_ordered(shop, cart_id)).order_id)
    assert orders <= {order_id}
    for state in (held, taken, State("failed", code="late"), State("voided")):
        await notice(state)
    again = await shop.buy(cart_id)
    assert (again.status_code, again.json()["id"], again.json()["payment_status"]) == (200, order_id, "paid")
    [payment] = await shop.payments(cart_id)
    assert (payment.status, payment.captured_minor) == ("captured", 1_000)
    happened = Counter(event.type for event in await shop.told("payment.captured", "order.placed"))
    assert happened == {"payment.captured": 1, "order.placed": 1}


async def eventually_ordered(shop: Till, cart_id: UUID) -> Cart:
    async def look() -> Cart | None:
        cart = await shop.cart(cart_id)
        return cart if cart.status == "ordered" else None

    return await eventually(look)


async def test_25_two_hundred_buyers_of_a_hundred_pieces_get_a_hundred_orders(shop: Till) -> None:
    """Medusa: stock that several carts shared was sold more often than it was there."""
    shirt = await shop.stock(PIECES)
    carts = await crowd(shop, shirt, BUYERS)
    steps = CheckoutActivities(shop.database, shop.gateways)
    left = iter(carts)
    answers: Counter[str] = Counter()

    async def buyer() -> None:
        for cart_id in left:
            wanted = CheckoutInput(tenant_id=shop.tenant_id, cart_id=cart_id, version=1, method="approve")
            reserved = await steps.reserve(ReserveRequest(checkout=wanted, run="once"))
            if reserved.status == "reserved":
                attempt = Attempt(checkout=wanted, attempt=reserved.attempt, payment_id=reserved.payment_id)
                await steps.authorize(attempt)
                await steps.capture(attempt)
                assert (await steps.confirm(attempt)).order_id is not None
            answers[reserved.code or reserved.status] += 1

    await asyncio.gather(*(buyer() for _ in range(AT_ONCE)))
    assert answers == {"reserved": PIECES, "out_of_stock": BUYERS - PIECES}
    async with shop.session() as session:
        numbers = select(func.count(), func.max(Order.number)).where(Order.tenant_id == shop.tenant_id)
        assert tuple((await session.execute(numbers)).one()) == (PIECES, PIECES)


async def crowd(shop: Till, variant_id: UUID, count: int) -> list[UUID]:
    """Make guests' carts of one piece."""
    ids = new_ids(count)
    own = {"tenant_id": shop.tenant_id}
    async with shop.session() as session:
        carts = [own | {"id": each, "currency": "EUR", "email": f"{each}@shop.example"} for each in ids]
        await session.execute(insert(Cart), carts)
        lines = [
            own | {"id": line, "cart_id": cart, "variant_id": variant_id, "quantity": 1}
            for line, cart in zip(new_ids(count), ids, strict=True)
        ]
        await session.execute(insert(CartLine), lines)
    return list(ids)


async def test_25_buyers_of_the_last_pieces_are_each_told_and_who_waits_hears_of_what_comes_back(shop: Till) -> None:
    """Medusa: stock changed without an event; Chatwoot and Saleor: failures were swallowed."""
    shirt = await shop.stock(3)
    async with shop.session() as session:
        waiting = await shop.fill()
        person = UUID((await shop.client.post("/v1/people", json={"email": "waits@shop.example"})).json()["id"])
        await watching.watch(session, person, shirt, "stock", by=SYSTEM)
    holding = await shop.fill()
    assert (await shop.buy(holding, "action")).status_code == 202
    others = [await shop.fill() for _ in range(5)]
    answers = await asyncio.gather(*(shop.buy(cart_id) for cart_id in others))
    assert Counter(answer.status_code for answer in answers) == {201: 2, 409: 3}
    assert {answer.json()["short"]["SHIRT"] for answer in answers if answer.status_code == 409} == {0}
    # the one who held the last piece gives up
    await shop.handle(holding).cancel()

    async def back() -> bool:
        return {event.person_id for event in await shop.told("stock.back")} == {None, person}

    await eventually(back)
    assert (await shop.buy(waiting)).status_code == 201
    failed = [event.properties["code"] for event in await shop.told("checkout.failed")]
    assert Counter(failed) == {"out_of_stock": 3, "cancelled": 1}
