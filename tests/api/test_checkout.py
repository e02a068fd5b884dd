"""Carts that become orders, over the API, by real workflows on a real store: each way it may go, and what is left."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from temporalio.client import Client, WorkflowFailureError

from api.rest import checkout as route
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.commerce import discounts, payments
from services.identity import organizations
from services.identity.organization_change import OrganizationChange
from tests.factories.checking_out import Till, till


@pytest.fixture
async def shop(
    database: Database, settings: Settings, tenant_id: UUID, client: AsyncClient, temporal_client: Client
) -> AsyncGenerator[Till]:
    """A shop with ten shirts at 10 euros."""
    async with till(database, settings, tenant_id, client, temporal_client) as made:
        await made.stock()
        yield made
        await made.check()


def problem(answer: Response, status: int, code: str) -> dict[str, Any]:
    """Return the problem, which must be this one."""
    body = answer.json()
    assert (answer.status_code, body.get("type", body).rsplit("/", 1)[-1]) == (status, code), answer.text
    return body


async def test_a_guest_buys_and_is_known_from_then_on(shop: Till) -> None:
    cart_id = await shop.fill(2, email="Guest@Shop.Example")
    address = {"street": "Weg 1", "city": "Bonn", "postal_code": "53111", "country": "DE"}
    answer = await shop.buy(cart_id, version=1, shipping_address=address, note="Ring twice", purchase_order="PO 1")
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert (order["status"], order["payment_status"], order["total"]["amount"]) == ("placed", "paid", "20.00")
    assert (order["note"], order["purchase_order"], order["email"]) == ("Ring twice", "PO 1", "guest@shop.example")
    assert order["shipping_address"]["city"] == "Bonn"
    person = (await shop.client.get(f"/v1/people/{order['person_id']}")).json()
    assert (person["email"], person["source"]) == ("guest@shop.example", "checkout")
    [payment] = await shop.payments(cart_id)
    assert (payment.status, payment.captured_minor, str(payment.order_id)) == ("captured", 2_000, order["id"])
    assert await shop.held() == [("held", True)]
    cart = (await shop.client.get(f"/v1/carts/{cart_id}")).json()
    assert (cart["status"], cart["order_id"]) == ("ordered", order["id"])
    # what workflows do on the way is told of whoever asked
    log = (await shop.client.get("/v1/audit")).json()["items"]
    done = {row["type"] for row in log if row["request_id"] == answer.headers["X-Request-ID"]}
    assert {"checkout.started", "payment.captured", "order.placed"} <= done
    # asked again, however, it is the same order
    again = await shop.buy(cart_id, "decline", version=1)
    assert (again.status_code, again.json()["id"]) == (200, order["id"])
    started, placed = await shop.told("checkout.started", "order.placed")
    assert str(started.person_id) == order["person_id"]
    assert started.properties == {"cart_id": str(cart_id), "attempt": 1, "total": "20.00", "currency": "EUR"}
    assert placed.properties["cart_id"] == str(cart_id)


async def test_a_second_click_gets_the_first_one_s_order(shop: Till) -> None:
    cart_id = await shop.fill()
    # the same body, whose own change makes a version of the cart
    answers = await asyncio.gather(
        *(shop.buy(cart_id, version=1, email="ann@shop.example", note="twice") for _ in range(6))
    )
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await shop.payments(cart_id)) == 1


async def test_a_declined_payment_leaves_the_cart_to_be_paid_otherwise(shop: Till) -> None:
    cart_id = await shop.fill()
    declined = problem(await shop.buy(cart_id, "decline"), 402, "payment_declined")
    assert (declined["decline_code"], declined["errors"][0]["field"]) == ("declined", "payment")
    cart = await shop.cart(cart_id)
    assert (cart.status, cart.attempt, (cart.failure or {})["code"]) == ("open", 1, "payment_declined")
    assert await shop.held() == [("released", False)]
    # what was promised and cannot be taken is let go
    problem(await shop.buy(cart_id, "fail_capture"), 402, "payment_declined")
    assert [payment.status for payment in await shop.payments(cart_id)] == ["failed", "voided"]
    await shop.bought(cart_id)
    assert [event.properties["code"] for event in await shop.told("checkout.failed")] == ["payment_declined"] * 2


async def test_money_taken_without_an_answer_makes_the_order(shop: Till) -> None:
    cart_id = await shop.fill()
    await shop.bought(cart_id, "fail_after_capture")
    [payment] = await shop.payments(cart_id)
    assert payment.status == "captured"


async def test_what_takes_long_goes_on_without_whoever_asked(shop: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "PATIENCE", timedelta(milliseconds=700))
    cart_id = await shop.fill()
    answer = await shop.buy(cart_id, "timeout")
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    cart = (await shop.client.get(f"/v1/carts/{cart_id}")).json()
    assert cart["status"] == "checking_out"
    changed = await shop.client.patch(f"/v1/carts/{cart_id}", json={"attributes": {"gift": True}})
    assert changed.status_code == 409
    # an operator cancels it
    await shop.handle(cart_id).cancel()
    with pytest.raises(WorkflowFailureError):
        await shop.handle(cart_id).result()
    cart = await shop.cart(cart_id)
    assert (cart.status, (cart.failure or {})["code"]) == ("open", "cancelled")


async def test_a_checkout_whose_workflow_was_terminated_is_taken_up_again(shop: Till) -> None:
    cart_id = await shop.fill()
    assert (await shop.buy(cart_id, "action")).status_code == 202
    await shop.handle(cart_id).terminate()
    assert (await shop.cart(cart_id)).status == "checking_out"
    await shop.bought(cart_id)
    assert [payment.status for payment in await shop.payments(cart_id)] == ["voided", "captured"]
    assert await shop.held() == [("released", False), ("held", True)]


async def test_a_buyer_confirms_with_their_bank(shop: Till) -> None:
    cart_id = await shop.fill()
    key = {"Idempotency-Key": "one"}
    for _ in range(2):  # the key is not kept: there is no last word yet
        answer = await shop.buy(cart_id, "action", headers=key)
        assert (answer.status_code, answer.json()["status"]) == (202, "action_required")
        assert answer.json()["client_secret"]
        assert "Idempotent-Replayed" not in answer.headers
    [payment] = await shop.payments(cart_id)
    assert payment.gateway_id is not None
    async with shop.session() as session:
        await payments.authorized(session, payment.id, gateway_id=payment.gateway_id, by=CLI)
    answer = await shop.buy(cart_id, "action", headers=key)
    assert answer.status_code == 201, answer.text
    assert (await shop.buy(cart_id, "action", headers=key)).headers["Idempotent-Replayed"] == "true"


async def test_a_price_that_changed_is_shown_before_it_is_paid(shop: Till) -> None:
    cart_id = await shop.fill(2)
    shown = {"amount": "20.00", "currency": "EUR"}
    dearer = {"sku": "SHIRT", "amount": "11.00", "currency": "EUR"}
    assert (await shop.client.put("/v1/prices", json={"prices": [dearer]})).is_success
    changed = problem(await shop.buy(cart_id, total=shown), 409, "version")
    assert changed["errors"] == [{"field": "total", "reason": "is 22.00 EUR by now"}]
    assert await shop.payments(cart_id) == []
    for wrong in ({**shown, "amount": "22.001"}, {**shown, "amount": "x"}):
        invalid = problem(await shop.buy(cart_id, total=wrong), 422, "invalid")
        assert invalid["errors"][0]["field"] == "total.amount"
    assert (await shop.buy(cart_id, total={**shown, "amount": "22"})).status_code == 201


async def test_more_than_there_is_is_refused_by_sku(shop: Till) -> None:
    cart_id, other = await shop.fill(7), await shop.fill(4)
    await shop.bought(cart_id)
    short = problem(await shop.buy(other), 409, "out_of_stock")
    assert short["short"] == {"SHIRT": 3}
    cart = (await shop.client.get(f"/v1/carts/{other}")).json()
    assert (cart["status"], cart["failure"]["code"]) == ("open", "out_of_stock")


async def test_what_cannot_be_bought_is_refused_with_its_reason(shop: Till) -> None:
    cart_id = await shop.fill()
    path = f"/v1/carts/{cart_id}"
    answer = await shop.client.patch(path, json={"attributes": {"gift": True}})
    assert answer.json()["version"] == 2
    assert problem(await shop.buy(cart_id, version=1), 409, "version")["version"] == 2
    assert problem(await shop.buy(cart_id, None), 422, "invalid")["errors"][0]["field"] == "payment"
    assert problem(await shop.buy(cart_id, None, on_account=True), 422, "invalid")["errors"][0]["field"] == "on_account"
    both = problem(await shop.buy(cart_id, on_account=True), 422, "invalid")
    assert both["errors"][0]["field"] == "on_account"
    assert problem(await shop.buy(cart_id, email="no address"), 422, "invalid")["errors"][0]["field"] == "email"
    empty = (await shop.client.post("/v1/carts", json={"email": "ann@shop.example"})).json()["id"]
    problem(await shop.buy(UUID(empty)), 409, "empty")
    nobody = await shop.fill(email=None)
    assert problem(await shop.buy(nobody), 422, "invalid")["errors"][0]["field"] == "email"
    joined = await shop.fill()
    await shop.client.post(f"{path}/join", json={"cart_id": str(joined)})
    assert problem(await shop.buy(joined), 409, "conflict")["joined_into"] == str(cart_id)
    problem(await shop.buy(UUID(int=0)), 404, "not-found")
    await shop.bought(cart_id, person_id=(await shop.client.post("/v1/people", json={"first_name": "A"})).json()["id"])


async def test_a_company_buys_on_its_terms_up_to_its_limit(shop: Till) -> None:
    async with shop.session() as session:
        fields = {"name": "Shop GmbH", "currency": "EUR", "payment_terms_days": 30}
        change = OrganizationChange(fields=fields, credit_limit=(2_500, "EUR"), limits=True)
        company = str((await organizations.upsert(session, change, by=CLI))[0].id)
    first, second = await shop.fill(2, organization_id=company), await shop.fill(organization_id=company)
    order = await shop.bought(first, None, on_account=True)
    assert (order["payment_status"], order["due_on"] is not None) == ("on_account", True)
    problem(await shop.buy(second, None, on_account=True), 409, "credit_limit")
    await shop.bought(second)
    assert await shop.payments(first) == []


async def test_what_is_free_needs_no_payment_and_a_used_up_code_is_given_back(shop: Till) -> None:
    code = {"code": "GIFT", "kind": "percent", "percent_bp": 10_000, "max_uses": 1}
    async with shop.session() as session:
        await discounts.create(session, code, by=CLI)
    cart_id, other = await shop.fill(discount_code="gift"), await shop.fill(discount_code="gift")
    order = await shop.bought(cart_id, None)
    assert (order["total"]["amount"], order["discount_code"]) == ("0.00", "GIFT")
    assert await shop.payments(cart_id) == []
    problem(await shop.buy(other, None), 409, "discount")
    await shop.client.patch(f"/v1/carts/{other}", json={"discount_code": None})
    await shop.bought(other)
