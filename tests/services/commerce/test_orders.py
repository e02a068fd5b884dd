"""Orders: one of each cart, numbered, with all that the checkout held and took."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, select, text

from core.database import Database
from core.errors import ConflictError, InvalidError
from models import Cart, Order, Organization, OrganizationEntry, Payment, Reservation, Variant
from services.commerce import order_directory, orders, reserving
from services.commerce.order_directory import Filter
from services.commerce.orders import Terms
from services.identity.organization_ledger import CreditLimitError
from tests.factories.ordering import Ordering, price_of
from tests.services.identity.statements import WITHOUT_SCANS, analyzed, indexes, recorded


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


async def test_an_order_takes_over_what_the_checkout_held_and_captured(shop: Ordering) -> None:
    ann, shirt, shoe = await shop.person(), await shop.variant(), await shop.variant(tracked=False, pieces=0)
    lines = {shirt: 2, shoe: 1}
    cart = await shop.cart(lines, person_id=ann)
    priced = price_of(lines, shipping_minor=490)
    payment = await shop.payment(cart, priced.total_minor)
    order = await shop.confirm(cart, priced, payment, Terms(note="Ring twice"))
    assert (order.number, order.status, order.payment_status, order.fulfilment_status) == (
        1,
        "placed",
        "paid",
        "unfulfilled",
    )
    assert (order.person_id, order.total_minor, order.captured_minor, order.note) == (ann, 3490, 3490, "Ring twice")
    async with shop.session() as session:
        whole = await order_directory.whole(session, order.id)
        held = (await session.scalars(select(Reservation).where(Reservation.tenant_id == shop.tenant_id))).one()
        done = await session.get_one(Cart, (shop.tenant_id, cart))
        paid = await session.get_one(Payment, (shop.tenant_id, payment))
    assert [(line.number, line.variant_id, line.quantity, line.tax_minor) for line in whole.lines] == [
        (1, shirt, 2, 333),
        (2, shoe, 1, 167),
    ]
    assert (held.order_id, held.expires_at, held.status) == (order.id, None, "held")
    assert (done.status, done.order_id, paid.order_id) == ("ordered", order.id, order.id)
    (event,) = await shop.events("order.placed")
    assert (event.subject_type, event.person_id) == ("person", ann)
    assert event.properties == {
        "order_id": str(order.id),
        "number": 1,
        "cart_id": str(cart),
        "currency": "EUR",
        "total": "34.90",
        "payment": "paid",
        "items": [
            {"sku": shirt.hex, "name": "Shirt", "quantity": 2, "unit": "10.00"},
            {"sku": shoe.hex, "name": "Shirt", "quantity": 1, "unit": "10.00"},
        ],
    }
    assert await shop.logged(order.id) == ["order.placed"]


async def test_a_cart_is_ordered_once_and_each_order_has_the_next_number(shop: Ordering) -> None:
    shirt = await shop.variant()
    carts = [await shop.cart({shirt: 1}) for _ in range(4)]
    priced = price_of({shirt: 1})
    payments = [await shop.payment(cart, priced.total_minor) for cart in carts]
    placed = await asyncio.gather(
        *(shop.confirm(cart, priced, paid) for cart, paid in zip(carts * 2, payments * 2, strict=True))
    )
    assert len({order.id for order in placed}) == 4
    assert sorted({order.number for order in placed}) == [1, 2, 3, 4]
    assert len(await shop.events("order.placed")) == 4


async def test_nothing_becomes_an_order_that_is_not_paid_in_full(shop: Ordering) -> None:
    shirt = await shop.variant()
    priced = price_of({shirt: 1})
    cart, other = await shop.cart({shirt: 1}), await shop.cart({shirt: 1})
    short = await shop.payment(cart, priced.total_minor, captured_minor=priced.total_minor - 1)
    others = await shop.payment(other, priced.total_minor)
    for payment in (short, others):
        with pytest.raises(ConflictError):
            await shop.confirm(cart, priced, payment)
    with pytest.raises(InvalidError, match="payment"):
        await shop.confirm(cart, priced)
    async with shop.session() as session:
        await reserving.release(session, cart_id=other, attempt=1)
    with pytest.raises(ConflictError, match="let go"):
        await shop.confirm(other, priced, others)
    async with shop.session() as session:
        assert await order_directory.page(session, Filter(), limit=9, before=None) == []
        free = await session.get_one(Cart, (shop.tenant_id, cart))
    assert (free.status, free.order_id) == ("checking_out", None)
    assert await shop.events("order.placed") == []


async def test_an_order_keeps_its_lines_when_the_catalogue_loses_the_variant(shop: Ordering) -> None:
    shirt = await shop.variant(tracked=False, pieces=0)
    cart = await shop.cart({shirt: 1})
    payment = await shop.payment(cart, price_of({shirt: 1}).total_minor)
    async with shop.session() as session:
        await session.execute(delete(Variant).where(Variant.tenant_id == shop.tenant_id, Variant.id == shirt))
    order = await shop.confirm(cart, price_of({shirt: 1}), payment)
    async with shop.session() as session:
        (line,) = await orders.lines_of(session, order.id)
    assert (line.variant_id, line.sku) == (None, shirt.hex)


async def test_an_organization_is_charged_once_up_to_its_limit(shop: Ordering) -> None:
    shirt, company = await shop.variant(), await shop.company(limit_minor=2_500, days=14)
    carts = [await shop.cart({shirt: 1}, organization_id=company) for _ in range(4)]
    priced, terms = price_of({shirt: 1}), Terms(on_account=True, purchase_order="PO-7")
    placed = await asyncio.gather(
        *(shop.confirm(cart, priced, None, terms) for cart in carts + carts), return_exceptions=True
    )
    refused = [one for one in placed if isinstance(one, BaseException)]
    made = {one.id: one for one in placed if isinstance(one, Order)}
    assert len(made) == 2
    assert all(isinstance(one, CreditLimitError) for one in refused)
    assert refused[0].args[0] == "The order goes beyond the organization's credit limit: 5.00 EUR is available."
    async with shop.session() as session:
        entries = (
            await session.scalars(
                select(OrganizationEntry)
                .where(OrganizationEntry.tenant_id == shop.tenant_id)
                .order_by(OrganizationEntry.number)
            )
        ).all()
        organization = await session.get_one(Organization, (shop.tenant_id, company))
    due = datetime.now(UTC).date() + timedelta(days=14)
    assert {entry.reference for entry in entries} == {f"order:{order}" for order in made}
    assert [(entry.kind, entry.amount_minor, entry.due_on) for entry in entries] == [("charge", 1000, due)] * 2
    assert organization.balance_minor == 2_000
    assert {(one.payment_status, one.captured_minor, one.due_on, one.purchase_order) for one in made.values()} == {
        ("on_account", 1000, due, "PO-7")
    }
    with pytest.raises(InvalidError, match="cart of an organization"):
        await shop.confirm(await shop.cart({shirt: 1}), priced, None, terms)


async def test_what_costs_nothing_needs_no_payment(shop: Ordering) -> None:
    shirt = await shop.variant()
    cart = await shop.cart({shirt: 1})
    free = price_of({shirt: 1}).model_copy(update={"subtotal_minor": 0, "tax_minor": 0, "total_minor": 0})
    order = await shop.confirm(cart, free)
    assert (order.payment_status, order.captured_minor) == ("paid", 0)


async def test_orders_are_found_by_indexes(shop: Ordering, database_url: str) -> None:
    ann, company = await shop.person(), await shop.company()
    async with shop.session() as session:
        await session.execute(
            text("""
            WITH people AS (
              INSERT INTO person (tenant_id, id) SELECT :tenant, tl_uuid7() FROM generate_series(1, 5000) RETURNING id
            )
            INSERT INTO sales_order (tenant_id, id, number, person_id, status, payment_status, currency, subtotal_minor,
                                     total_minor)
            SELECT :tenant, tl_uuid7(), row_number() OVER (), id, 'completed', 'unpaid', 'EUR', 1, 1 FROM people
            """),
            {"tenant": shop.tenant_id},
        )
    await analyzed(database_url, "sales_order")
    wanted = {
        "sales_order_tenant_id_person_id_id_idx": Filter(person_id=ann),
        "sales_order_tenant_id_organization_id_id_idx": Filter(organization_id=company),
        "sales_order_tenant_id_status_id_idx": Filter(status="placed"),
    }
    async with shop.session() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(WITHOUT_SCANS)
        for index, filter_ in wanted.items():
            with recorded() as seen:
                await order_directory.page(session, filter_, limit=10, before=None)
            ((statement, parameters),) = seen
            explained = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            assert indexes(explained.scalar_one()[0]["Plan"]) == {index}, filter_
