"""Refunds: never more than was taken, sums that agree, pieces that come back, whatever the gateway says and when."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError
from integrations.payments.port import GivenBack
from models import Order, OrderLine, OrganizationEntry, Payment, Refund
from services.commerce import orders, refunding, refunds, reserving, undoing
from services.commerce.gateways import Gateways
from services.commerce.refunds import ReturnedPieces
from services.commerce.reserving import Line
from services.tenancy import tenants
from tests.factories.ordering import UNIT, Ordering
from tests.factories.paying import LOCAL
from tests.services.identity.statements import WITHOUT_SCANS, nodes, recorded


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


async def pay_by(shop: Ordering, order: UUID, method: str) -> None:
    """Have the order been paid by another method of the local gateway's."""
    async with shop.session() as session:
        mine = update(Payment).where(Payment.tenant_id == shop.tenant_id, Payment.order_id == order)
        gateway_id = f"local_pay.{method}.100000.{order.hex}"
        await session.execute(mine.values(gateway_id=gateway_id))


async def check_sums(session: TenantSession) -> None:
    """Orders, payments, lines and the organization's ledger say the same as the refunds; nothing is above what was."""
    tenant = session.tenant_id
    session.expire_all()
    rows = (await session.scalars(select(Refund).where(Refund.tenant_id == tenant))).all()
    done, counts = Counter[UUID](), Counter[UUID]()
    for row in rows:
        done[row.order_id] += row.amount_minor if row.status == "succeeded" else 0
        counts[row.order_id] += row.amount_minor if row.status != "failed" else 0
    for order in (await session.scalars(select(Order).where(Order.tenant_id == tenant))).all():
        assert order.refunded_minor == done[order.id]
        assert counts[order.id] <= order.captured_minor
        whole = {0: {"paid", "on_account"}, order.captured_minor: {"refunded"}}
        assert order.payment_status in whole.get(order.refunded_minor, {"partly_refunded"})
        for payment in await session.scalars(
            select(Payment).where(Payment.order_id == order.id, Payment.tenant_id == tenant)
        ):
            assert payment.refunded_minor == done[order.id]
        if order.organization_id is not None:
            credited = await session.scalar(
                select(func.coalesce(-func.sum(OrganizationEntry.amount_minor), 0)).where(
                    OrganizationEntry.tenant_id == tenant, OrganizationEntry.kind == "credit"
                )
            )
            assert credited == done[order.id]
    for line in (await session.scalars(select(OrderLine).where(OrderLine.tenant_id == tenant))).all():
        back = [one for row in rows if row.status == "succeeded" for one in row.lines if one["line_id"] == str(line.id)]
        assert line.returned == sum(one["quantity"] for one in back) <= line.quantity


STEP = st.tuples(
    st.sampled_from(("amount", "pieces", "rest", "succeeded", "failed", "pending")),
    st.integers(0, 1),
    st.integers(1, 2_500),
)


@given(steps=st.lists(STEP, max_size=12))
@settings(max_examples=10)
def test_sums_hold_whatever_happens(database_url: str, steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_whatever(database_url, steps))


async def _whatever(url: str, steps: list[tuple[str, int, int]]) -> None:
    database = Database(url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    shop = Ordering(database, tenant_id)
    shirt = await shop.variant()
    bought = [
        await shop.order({shirt: 3}, shipping_minor=490),
        await shop.order({shirt: 3}, organization_id=await shop.company(), on_account=True),
    ]
    async with shop.session() as session:
        lines = [(await orders.lines_of(session, order))[0].id for order in bought]
    asked: list[UUID] = []
    for step, which, number in steps:
        try:
            async with shop.session() as session:
                match step:
                    case "amount":
                        made = await refunds.request(session, bought[which], amount_minor=number, by=CLI)
                        asked.append(made.id)
                    case "pieces":
                        pieces = [ReturnedPieces(lines[which], number % 3 + 1)]
                        asked.append((await refunds.request(session, bought[which], lines=pieces, by=CLI)).id)
                    case "rest":
                        asked.append((await refunds.request(session, bought[which], by=CLI)).id)
                    case "succeeded" | "failed" | "pending" if asked:
                        refund = asked[number % len(asked)]
                        await refunds.settle(session, refund, GivenBack(f"r{refund}", step), by=CLI)
                    case _:
                        pass
        except (ConflictError, InvalidError):
            pass
    async with shop.session() as session:
        await check_sums(session)
    await database.close()


async def test_who_asks_at_the_same_moment_gets_no_more_than_there_is(
    shop: Ordering, database: Database, gateways: Gateways
) -> None:
    order = await shop.order({await shop.variant(): 3})

    async def ask() -> bool:
        try:
            async with shop.session() as session:
                made = await refunds.request(session, order, amount_minor=2 * UNIT, by=CLI)
        except ConflictError:
            return False
        await asyncio.gather(*(refunding.ask(database, gateways, shop.tenant_id, made.id, by=CLI) for _ in range(2)))
        return True

    assert sum(await asyncio.gather(*(ask() for _ in range(5)))) == 1
    async with shop.session() as session:
        await check_sums(session)
        assert (await orders.get(session, order)).payment_status == "partly_refunded"
    assert len(await shop.events("order.refunded")) == 1, "asked twice, it is settled once"


async def test_pieces_come_back_to_the_place_they_were_taken_from(
    shop: Ordering, database: Database, gateways: Gateways
) -> None:
    ann, shirt = await shop.person(), await shop.variant()
    order = await shop.order({shirt: 3}, person_id=ann)
    async with shop.session() as session:
        (line,) = await orders.lines_of(session, order)
        with pytest.raises(InvalidError, match="only 0 that were sent"):
            await refunds.request(session, order, lines=[ReturnedPieces(line.id, 1, restock=True)], by=CLI)
        await reserving.ship(session, order, [Line(shirt, 2)], reference="fulfilment:1", by=CLI)
        line.fulfilled = 2
    assert await shop.levels(shirt) == (8, 1)
    async with shop.session() as session:
        pieces = [ReturnedPieces(line.id, 2, restock=True)]
        refund = await refunds.request(session, order, lines=pieces, reason="too small", by=CLI)
        assert (refund.amount_minor, refund.status) == (2 * UNIT, "pending")
        with pytest.raises(InvalidError, match="must be from 1 to 1"):
            await refunds.request(session, order, lines=pieces, by=CLI)
        with pytest.raises(InvalidError, match="is not a line"):
            await refunds.request(session, order, lines=[ReturnedPieces(uuid4(), 1)], by=CLI)
    assert await shop.levels(shirt) == (8, 1), "not before the money is given back"
    for _ in range(2):
        done = await refunding.ask(database, gateways, shop.tenant_id, refund.id, by=CLI)
        assert done.status == "succeeded"
    assert await shop.levels(shirt) == (10, 1)
    (event,) = await shop.events("order.refunded")
    assert event.person_id == ann
    assert {name: event.properties[name] for name in ("order_id", "refund_id", "total", "currency")} == {
        "order_id": str(order),
        "refund_id": str(refund.id),
        "total": "20.00",
        "currency": "EUR",
    }
    assert await shop.logged(order) == ["order.placed", "order.refund_requested", "order.refunded"]


async def test_pieces_of_a_line_add_up_to_its_total(shop: Ordering) -> None:
    order = await shop.order({await shop.variant(): 3})
    async with shop.session() as session:
        (line,) = await orders.lines_of(session, order)
        await session.execute(
            update(OrderLine)
            .where(OrderLine.tenant_id == shop.tenant_id, OrderLine.id == line.id)
            .values(total_minor=1000)
        )
        given = [await refunds.request(session, order, lines=[ReturnedPieces(line.id, 1)], by=CLI) for _ in range(3)]
        assert [one.amount_minor for one in given] == [333, 333, 334]


async def test_what_a_gateway_refuses_can_be_given_back_again(
    shop: Ordering, database: Database, gateways: Gateways
) -> None:
    order = await shop.order({await shop.variant(): 1})
    await pay_by(shop, order, "fail_refund")
    async with shop.session() as session:
        first = await refunds.request(session, order, by=CLI)
        with pytest.raises(ConflictError, match="Nothing is left"):
            await refunds.request(session, order, by=CLI)
    failed = await refunding.ask(database, gateways, shop.tenant_id, first.id, by=CLI)
    assert (failed.status, failed.failure and failed.failure["code"]) == ("failed", "refund_failed")
    assert len(await shop.events("order.refund_failed")) == 1
    await pay_by(shop, order, "slow_refund")
    async with shop.session() as session:
        second = await refunds.request(session, order, by=CLI)
    assert (await refunding.ask(database, gateways, shop.tenant_id, second.id, by=CLI)).status == "pending"
    await refunding.ask_pending(database, gateways, after=timedelta(hours=1))
    async with shop.session() as session:
        assert (await refunds.get(session, second.id)).status == "pending", "it was asked a moment ago"
    await refunding.ask_pending(database, gateways, after=timedelta(0))
    async with shop.session() as session:
        await check_sums(session)
        done = await refunds.settle(session, second.id, GivenBack("r", "failed", "account closed"), by=CLI)
        assert (done.status, done.failure and done.failure["message"]) == ("succeeded", "account closed")
        assert (await orders.get(session, order)).payment_status == "refunded"


async def test_a_crash_before_the_gateway_answered_is_made_good(
    shop: Ordering, database: Database, gateways: Gateways
) -> None:
    order = await shop.order({await shop.variant(): 1})
    async with shop.session() as session:
        refund = await refunds.request(session, order, by=CLI)
        payment = await session.get_one(Payment, (shop.tenant_id, refund.payment_id))
        assert payment.gateway_id is not None
        await LOCAL.refund(payment.gateway_id, refund.amount_minor, "EUR", f"refund:{refund.id}")
    await refunding.ask_pending(database, gateways, after=timedelta(0))
    async with shop.session() as session:
        assert (await refunds.get(session, refund.id)).status == "succeeded"


async def test_the_relay_finds_what_waits_by_index(database: Database, gateways: Gateways) -> None:
    with recorded() as sent:
        await refunding.ask_pending(database, gateways, after=timedelta(days=1))
        await undoing.undo_strays(database, gateways, after=timedelta(days=1))
    used: list[str] = []
    async with database.system() as session:
        await session.execute(text(WITHOUT_SCANS))
        connection = await session.connection()
        for statement, parameters in sent[:2]:
            explain = f"EXPLAIN (FORMAT JSON) {statement}"
            (plan,) = (await connection.exec_driver_sql(explain, parameters)).scalar_one()
            used += [node["Index Name"] for node in nodes(plan["Plan"]) if "Index Cond" in node]
    assert used == ["refund_pending_idx", "payment_stray_idx"]
