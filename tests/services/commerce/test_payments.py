"""Payments: whatever is told in whatever order, the highest state holds; nothing taken stays without an order."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from core.actor import CLI, SYSTEM
from core.database import Database, TenantSession
from core.errors import ConflictError, InvalidError
from integrations.payments.port import DeclinedError, GatewayError, Request
from models import Cart, Event, Payment
from services.commerce import payments, undoing
from services.commerce.gateways import Gateways
from services.tenancy import tenants
from tests.factories.paying import LOCAL, begun

AMOUNT = 1_250
TOLD = ("asked", "authorized", "voided", "failed", "captured:500", "captured:1250", "captured:1251", "captured:0")


async def tell(session: TenantSession, payment_id: UUID, what: str) -> None:
    kind, _, amount = what.partition(":")
    match kind:
        case "asked":
            await payments.asked(session, payment_id, gateway_id="g")
        case "authorized":
            await payments.authorized(session, payment_id, gateway_id="g", by=CLI)
        case "voided":
            await payments.voided(session, payment_id, by=CLI)
        case "failed":
            await payments.failed(session, payment_id, code="declined", message="No.", by=CLI)
        case _:
            await payments.captured(session, payment_id, amount_minor=int(amount), by=CLI)


@given(first=st.lists(st.sampled_from(TOLD), max_size=7), data=st.data())
@settings(max_examples=12)
def test_any_order_of_answers_and_notices_ends_in_the_same_state(
    database_url: str, first: list[str], data: st.DataObject
) -> None:
    second = data.draw(st.permutations(first + first[:2]))  # some come twice
    assert asyncio.run(ends(database_url, first)) == asyncio.run(ends(database_url, second))


async def ends(url: str, told: list[str]) -> tuple[str, int, str | None, object]:
    database = Database(url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    async with database.tenant(tenant_id) as session:
        payment = await begun(session, AMOUNT)
        for what in told:
            before = payments.RANK[payment.status]
            try:
                await tell(session, payment.id, what)
            except ConflictError:
                assert what in {"captured:1251", "captured:0"}
            payment = await payments.get(session, payment.id)
            assert payments.RANK[payment.status] >= before
            assert payment.captured_minor <= payment.amount_minor
    await database.close()
    return payment.status, payment.captured_minor, payment.gateway_id, payment.failure


async def test_an_attempt_has_one_payment(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        cart = uuid4()
        first = await begun(session, AMOUNT, cart_id=cart)
        assert (await begun(session, AMOUNT, cart_id=cart)).id == first.id
        assert (first.gateway, first.account_id, first.status) == ("local", None, "pending")
        with pytest.raises(ConflictError, match="another amount"):
            await begun(session, AMOUNT + 1, cart_id=cart)
        with pytest.raises(InvalidError, match="more than zero"):
            await begun(session, 0)
        await payments.authorized(session, first.id, gateway_id="g", by=CLI)
        with pytest.raises(ConflictError, match="another payment"):
            await payments.authorized(session, first.id, gateway_id="h", by=CLI)
        again = await payments.authorized(session, first.id, gateway_id="g", by=CLI)
        done = await payments.captured(session, first.id, amount_minor=AMOUNT, by=CLI)
        assert (again.status, done.status, done.captured_minor) == ("captured", "captured", AMOUNT), "one row, as it is"
        told = await session.scalars(
            select(Event.type).where(Event.tenant_id == tenant_id, Event.subject_id == first.id).order_by(Event.id)
        )
        assert list(told) == ["payment.authorized", "payment.captured"]


async def test_the_local_gateway_does_what_the_method_says() -> None:
    asked = {
        method: Request(key="k", amount_minor=5, currency="EUR", method=method) for method in ("approve", "action")
    }
    one = await LOCAL.authorize(asked["approve"])
    assert one == await LOCAL.authorize(asked["approve"]), "under its key it is the same request"
    assert (await LOCAL.capture(one.gateway_id, 5, "EUR", "c")).status == "captured"
    with pytest.raises(DeclinedError, match="amount_too_large"):
        await LOCAL.capture(one.gateway_id, 6, "EUR", "c")
    assert (await LOCAL.authorize(asked["action"])).client_secret
    for method, error in (("decline", DeclinedError), ("timeout", GatewayError), ("cash", DeclinedError)):
        with pytest.raises(error):
            await LOCAL.authorize(Request(key="k", amount_minor=5, currency="EUR", method=method))
    taken = await LOCAL.authorize(Request(key="k", amount_minor=5, currency="EUR", method="fail_after_capture"))
    with pytest.raises(GatewayError):
        await LOCAL.capture(taken.gateway_id, 5, "EUR", "c")
    assert (await LOCAL.fetch(taken.gateway_id)).captured_minor == 5
    with pytest.raises(DeclinedError, match="unknown_payment"):
        await LOCAL.fetch("pi_1")


@pytest.mark.parametrize(
    ("method", "taken", "ends"),
    [
        ("approve", False, ("voided", 0)),
        ("approve", True, ("captured", AMOUNT)),
        ("fail_after_capture", False, ("captured", AMOUNT)),  # it was taken, as voiding it shows
        (None, False, ("failed", 0)),
    ],
)
async def test_a_payment_is_taken_back(
    database: Database, tenant_id: UUID, gateways: Gateways, method: str | None, taken: bool, ends: tuple[str, int]
) -> None:
    async with database.tenant(tenant_id) as session:
        payment = await begun(session, AMOUNT, method=method)
        if taken:
            await payments.captured(session, payment.id, amount_minor=AMOUNT, by=CLI)
    for _ in range(2):
        undone = await undoing.undo(database, gateways, tenant_id, payment.id, by=SYSTEM)
        assert (undone.status, undone.refunded_minor) == ends


async def test_what_a_crash_left_is_taken_back_unless_its_checkout_is_at_work(
    database: Database, tenant_id: UUID, gateways: Gateways
) -> None:
    at_work = uuid4()
    async with database.tenant(tenant_id) as session:
        values = {"tenant_id": tenant_id, "id": at_work, "status": "checking_out", "currency": "EUR", "attempt": 1}
        await session.execute(insert(Cart).values(values))
        stray = await begun(session, AMOUNT, method="approve")
        kept = await begun(session, AMOUNT, cart_id=at_work, method="approve")
        refuses = await begun(session, AMOUNT, method="fail_refund")
        for one in (stray, kept, refuses):
            await payments.captured(session, one.id, amount_minor=AMOUNT, by=CLI)
    await undoing.undo_strays(database, gateways, after=timedelta(hours=1))
    await undoing.undo_strays(database, gateways, after=timedelta(0))
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(select(Payment.id, Payment.refunded_minor).where(Payment.tenant_id == tenant_id))
        assert {row.id: row.refunded_minor for row in rows} == {stray.id: AMOUNT, kept.id: 0, refuses.id: 0}
