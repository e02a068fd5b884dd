"""Whatever is ordered, sent, given back and called off: ledgers are the balances, and facts the orders."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core.actor import CLI
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError
from integrations.payments.port import GivenBack
from models import Order, OrderFact, OrderLine, Organization, OrganizationEntry, Payment, Refund, Reservation
from services.commerce import cancelling, fulfilments, order_facts, orders, refunds
from services.commerce.fulfilments import NewParcel
from services.commerce.refunds import ReturnedPieces
from services.events.bus import EventRow
from services.identity import organization_ledger
from services.identity.organization_ledger import NewEntry
from services.tenancy import tenants
from tests.factories.ordering import Ordering
from tests.services.commerce.test_stock import check_sums

STEP = st.tuples(
    st.sampled_from(["buy", "buy", "charge", "charge", "ship", "ship", "amount", "pieces", "settle", "cancel", "pay"]),
    st.integers(0, 3),
    st.integers(1, 4),
    st.booleans(),
)
FACTS = ("order.placed", "order.refunded", "order.cancelled")


@given(steps=st.lists(STEP, min_size=4, max_size=14))
@settings(max_examples=6)
def test_ledgers_are_the_balances_whatever_happens(database_url: str, steps: list[tuple[str, int, int, bool]]) -> None:
    asyncio.run(_whatever(database_url, steps))


async def _whatever(url: str, steps: Sequence[tuple[str, int, int, bool]]) -> None:
    database = Database(url)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
        await _follow(Ordering(database, tenant_id), steps)
    finally:
        await database.close()


async def _follow(shop: Ordering, steps: Sequence[tuple[str, int, int, bool]]) -> None:
    ann, company = await shop.person(), await shop.company(limit_minor=8_000)
    goods = [await shop.variant(pieces=12), await shop.variant(pieces=3), await shop.variant(pieces=0, tracked=False)]
    made: list[UUID] = []
    for step, which, number, flag in steps:
        try:
            if step in {"buy", "charge"}:
                lines = {goods[which % 3]: number, goods[(which + 1) % 3]: 1}
                charged = step == "charge"
                made.append(
                    await shop.order(
                        lines,
                        person_id=ann,
                        organization_id=company if charged else None,
                        on_account=charged,
                        shipping_minor=490 if flag else 0,
                    )
                )
            elif made or step == "pay":
                async with shop.session() as session:
                    await _do(session, step, made[which % len(made)] if made else company, company, number, flag=flag)
        except (ConflictError, InvalidError):
            pass
    async with shop.session() as session:
        await check_sums(session)
        await _check_orders(session)
        await _check_company(session, company)
    await _check_facts(shop)


async def _do(session: TenantSession, step: str, order: UUID, company: UUID, number: int, *, flag: bool) -> None:
    match step:
        case "ship":
            lines = None if flag else {(await orders.lines_of(session, order))[0].id: number}
            await fulfilments.ship(session, order, NewParcel(lines=lines), by=CLI)
        case "amount":
            await refunds.request(session, order, amount_minor=number * 350, by=CLI)
        case "pieces":
            line = (await orders.lines_of(session, order))[0].id
            await refunds.request(session, order, lines=[ReturnedPieces(line, number, restock=flag)], by=CLI)
        case "settle":
            pending = select(Refund.id).where(Refund.tenant_id == session.tenant_id, Refund.status == "pending")
            for refund_id in (await session.scalars(pending)).all():
                said = GivenBack(gateway_id=f"back:{refund_id}", status="succeeded" if flag else "failed")
                await refunds.settle(session, refund_id, said, by=CLI)
        case "cancel":
            await cancelling.cancel(session, order, refund=flag, by=CLI)
        case _:
            paid = NewEntry(kind="payment", amount_minor=number * 500, currency="EUR")
            await organization_ledger.book(session, company, paid, by=CLI)


async def _check_orders(session: TenantSession) -> None:
    tenant = session.tenant_id
    given_back: Counter[UUID | None] = Counter()
    by_payment: Counter[UUID | None] = Counter()
    for refund in await session.scalars(select(Refund).where(Refund.tenant_id == tenant)):
        if refund.status == "succeeded":
            given_back[refund.order_id] += refund.amount_minor
            by_payment[refund.payment_id] += refund.amount_minor
    for payment in await session.scalars(select(Payment).where(Payment.tenant_id == tenant)):
        assert payment.refunded_minor == by_payment[payment.id]
    held: Counter[tuple[UUID | None, UUID]] = Counter()
    for row in await session.scalars(select(Reservation).where(Reservation.tenant_id == tenant)):
        held[row.order_id, row.variant_id] += row.quantity if row.status == "held" else 0
    counted = {variant for _, variant in held}
    lines = (await session.scalars(select(OrderLine).where(OrderLine.tenant_id == tenant))).all()
    for order in await session.scalars(select(Order).where(Order.tenant_id == tenant)):
        mine = [line for line in lines if line.order_id == order.id]
        assert order.refunded_minor == given_back[order.id] <= order.captured_minor == order.total_minor
        assert (order.payment_status == "refunded") == (order.refunded_minor == order.captured_minor)
        for line in mine:
            to_send = line.quantity - line.fulfilled - line.released
            assert line.variant_id is not None
            assert held[order.id, line.variant_id] == (to_send if line.variant_id in counted else 0)
        left = sum(line.quantity - line.fulfilled - line.released for line in mine)
        sent = sum(line.fulfilled for line in mine)
        assert order.fulfilment_status == ("unfulfilled" if not sent else "partly_fulfilled" if left else "fulfilled")
        if order.status == "cancelled":
            assert (left, sent) == (0, 0)
        else:
            assert (order.status == "completed") == (order.fulfilment_status == "fulfilled")


async def _check_company(session: TenantSession, company: UUID) -> None:
    own = OrganizationEntry.tenant_id == session.tenant_id
    entries = (await session.scalars(select(OrganizationEntry).where(own).order_by(OrganizationEntry.number))).all()
    organization = await session.get_one(Organization, (session.tenant_id, company))
    charged = await session.scalars(
        select(Order).where(Order.tenant_id == session.tenant_id, Order.organization_id == company)
    )
    owed = sum(order.captured_minor - order.refunded_minor for order in charged)
    paid = sum(-entry.amount_minor for entry in entries if entry.kind == "payment")
    assert organization.balance_minor == sum(entry.amount_minor for entry in entries) == owed - paid
    assert not entries or entries[-1].balance_minor == organization.balance_minor


async def _check_facts(shop: Ordering) -> None:
    told = [
        EventRow(
            id=event.id,
            type=event.type,
            subject_type=event.subject_type,
            subject_id=event.subject_id,
            person_id=event.person_id,
            properties=event.properties,
            occurred_at=event.occurred_at,
            received_at=event.received_at,
            live=event.live,
            position=event.position,
        )
        for event in await shop.events(*FACTS)
    ]
    async with shop.session() as session:
        await order_facts.handle(session, told)
        facts = await session.scalars(select(OrderFact).where(OrderFact.tenant_id == shop.tenant_id))
        made = await session.scalars(select(Order).where(Order.tenant_id == shop.tenant_id))
        assert {fact.order_key: (fact.total_minor, fact.refunded_minor) for fact in facts} == {
            str(order.id): (order.total_minor, order.refunded_minor) for order in made
        }
