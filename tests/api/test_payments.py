"""Payments, accounts with gateways and their notices by the API."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import select, update

from api.dependencies import get_gateways
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from integrations.payments.notices import SIGNATURE, signature
from integrations.payments.port import Request
from models import Payment, PaymentAccount, PaymentNotice
from services.commerce import payments, undoing
from services.commerce.gateways import Gateways
from tests.factories.ordering import Ordering
from tests.factories.paying import begun
from tests.providers.stripe import KEY, Stripe, running

SIGNED_WITH = "whsec_ofTheShop1234"
PATH = "/v1/payment-accounts"
ACCOUNT: dict[str, Any] = {"gateway": "stripe", "secret": {"secret_key": "sk_test_shop", "webhook_secret": SIGNED_WITH}}


@pytest.fixture
async def stripe() -> AsyncGenerator[Stripe]:
    async with running() as server:
        yield server


@pytest.fixture
async def gateways(app: FastAPI, settings: Settings, stripe: Stripe) -> AsyncGenerator[Gateways]:
    """The API's own while the test runs: they ask a Stripe on this machine."""
    gateways = Gateways(settings.model_copy(update={"stripe_url": stripe.url}))

    async def instead() -> Gateways:
        return gateways

    app.dependency_overrides[get_gateways] = instead
    yield gateways
    del app.dependency_overrides[get_gateways]
    await gateways.close()


@pytest.fixture
def shop(database: Database, tenant_id: UUID) -> Ordering:
    return Ordering(database, tenant_id)


async def test_an_account_keeps_its_secret(
    client: AsyncClient, database: Database, tenant_id: UUID, gateways: Gateways
) -> None:
    for body, field in (
        ({"gateway": "stripe"}, "secret.secret_key"),
        ({"gateway": "stripe", "secret": {"secret_key": "pk_test_1"}}, "secret.secret_key"),
        (ACCOUNT | {"config": {"base_url": "https://stripe.example"}}, "config.base_url"),
        ({"gateway": "local", "secret": {"webhook_secret": "short"}}, "secret.webhook_secret"),
    ):
        answer = await client.post(PATH, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
        assert "pk_test_1" not in answer.text
    made = await client.post(PATH, json=ACCOUNT | {"config": {"publishable_key": "pk_test_1"}})
    assert made.status_code == 201, made.text
    account = f"{PATH}/{made.json()['id']}"
    assert (await client.post(PATH, json=ACCOUNT)).status_code == 409, "one is active"
    for answer in (made, await client.get(account), await client.get(PATH), await client.get("/v1/audit")):
        assert answer.is_success
        assert KEY not in answer.text
        assert SIGNED_WITH not in answer.text
    async with database.tenant(tenant_id) as session:
        kept = await session.get_one(PaymentAccount, (tenant_id, UUID(made.json()["id"])))
        assert KEY.encode() not in (kept.secret or b"")
    assert (await client.post(f"{account}/test")).json() == {"ok": True, "detail": "the account's balance in test mode"}
    await client.patch(account, json={"secret": {"secret_key": "sk_test_other"}})
    refused = (await client.post(f"{account}/test")).json()
    assert (refused["ok"], "Invalid API Key" in refused["detail"]) == (False, True)
    async with database.tenant(tenant_id) as session:
        assert (await begun(session, 100)).account_id == kept.id
    assert (await client.delete(account)).status_code == 409, "payments are by it"
    assert (await client.patch(account, json={"active": False})).json()["active"] is False
    async with database.tenant(tenant_id) as session:
        assert (await begun(session, 100)).gateway == "local"


class Notices:
    """What the gateway posts."""

    def __init__(self, client: AsyncClient, url: str) -> None:
        self._client, self._path = client, urlsplit(url).path

    async def post(self, thing: dict[str, Any], *, event: str | None = None, secret: str = SIGNED_WITH) -> Response:
        told = {"id": event or f"evt_{uuid4().hex}", "type": f"{thing['object']}.changed", "data": {"object": thing}}
        body = json.dumps(told).encode()
        headers = {SIGNATURE: signature(body, secret, int(time.time())), "Authorization": ""}
        return await self._client.post(self._path, content=body, headers=headers)

    async def effect(self, thing: dict[str, Any], *, event: str | None = None) -> str:
        answer = await self.post(thing, event=event)
        assert answer.status_code == 200, answer.text
        return answer.json()["effect"]


async def held(database: Database, gateways: Gateways, tenant_id: UUID, method: str = "pm_card_visa") -> UUID:
    """Begin a payment, and have Stripe hold the money; our side was not told yet."""
    async with database.tenant(tenant_id) as session:
        payment = await begun(session, 2_000)
        gateway = await gateways.of(session, payment)
    named = {"payment_id": str(payment.id)}
    await gateway.authorize(
        Request(key=str(payment.id), amount_minor=2_000, currency="EUR", method=method, metadata=named)
    )
    return payment.id


async def test_notices_count_once_in_any_order_and_by_their_signature(
    client: AsyncClient, database: Database, tenant_id: UUID, gateways: Gateways, stripe: Stripe
) -> None:
    account = (await client.post(PATH, json=ACCOUNT)).json()
    notices = Notices(client, account["webhook_url"])
    payment = await held(database, gateways, tenant_id, "pm_card_authenticationRequired")
    (intent,) = stripe.intents.values()
    assert (await notices.post(intent, secret="whsec_ofSomebodyElse")).status_code == 403
    assert (await client.post("/v1/payments/notices/x", content=b"{}")).status_code == 404
    ready, taken = dict(intent, status="requires_capture"), dict(intent, status="succeeded", amount_received=2_000)
    assert await notices.effect(intent) == "nothing", "the payer has to confirm it"
    assert await notices.effect(ready, event="evt_1") == "authorized"
    assert await notices.effect(ready, event="evt_1") == "nothing", "told twice"
    both = await asyncio.gather(*(notices.effect(taken, event="evt_2") for _ in range(2)))
    assert sorted(both) == ["captured", "nothing"]
    assert await notices.effect(ready) == "nothing", "late"
    assert await notices.effect(dict(intent, id="pi_other")) == "nothing", "it names ours, and is another"
    assert await notices.effect({"object": "customer", "id": "cus_1"}) == "nothing"
    shown = (await client.get(f"/v1/payments/{payment}")).json()
    assert (shown["status"], shown["captured"]["amount"], shown["gateway_id"]) == ("captured", "20.00", intent["id"])
    async with database.tenant(tenant_id) as session:
        rows = await session.scalars(select(PaymentNotice.effect).where(PaymentNotice.tenant_id == tenant_id))
        assert sorted(rows) == ["authorized", "captured", *["nothing"] * 4]


async def test_what_is_held_too_late_is_let_go_or_told_again(
    client: AsyncClient, database: Database, tenant_id: UUID, gateways: Gateways, stripe: Stripe
) -> None:
    notices = Notices(client, (await client.post(PATH, json=ACCOUNT)).json()["webhook_url"])
    payment = await held(database, gateways, tenant_id)
    async with database.tenant(tenant_id) as session:
        await payments.failed(session, payment, code="gave_up", message="No answer.", by=CLI)
    (intent,) = stripe.intents.values()
    told = dict(intent)
    stripe.broken = [500]
    stripe.answers.clear()
    assert (await notices.post(told, event="evt_1")).status_code == 503
    assert await notices.effect(told, event="evt_1") == "voided"
    assert intent["status"] == "canceled"


async def test_refunds_made_at_the_gateway_are_the_orders(
    client: AsyncClient, shop: Ordering, gateways: Gateways, stripe: Stripe
) -> None:
    account = (await client.post(PATH, json=ACCOUNT)).json()
    notices = Notices(client, account["webhook_url"])
    order = await shop.order({await shop.variant(): 2})
    async with shop.session() as session:
        mine = update(Payment).where(Payment.tenant_id == shop.tenant_id, Payment.order_id == order)
        await session.execute(mine.values(gateway="stripe", gateway_id="pi_1", account_id=UUID(account["id"])))
    asked = (
        await client.post(f"/v1/orders/{order}/refunds", json={"amount": {"amount": "5", "currency": "EUR"}})
    ).json()
    assert asked["status"] == "succeeded"
    (known,) = stripe.refunds.values()
    assert await notices.effect(known) == "nothing", "we asked for it"
    there = {"object": "refund", "id": "re_there", "payment_intent": "pi_1", "amount": 700, "currency": "eur"}
    assert await notices.effect(there | {"status": "pending"}) == "nothing"
    assert await notices.effect(there | {"status": "succeeded"}) == "refund succeeded"
    assert await notices.effect(there | {"status": "succeeded"}) == "nothing"
    beyond = there | {"id": "re_beyond", "amount": 5_000, "status": "succeeded"}
    assert await notices.effect(beyond) == "nothing", "more than was taken is none of ours"
    shown = (await client.get(f"/v1/orders/{order}")).json()
    assert shown["refunded"]["amount"] == "12.00"
    (payment,) = (await client.get(f"/v1/payments?order_id={order}")).json()["items"]
    assert (payment["refunded"]["amount"], payment["account_id"]) == ("12.00", account["id"])


async def test_a_checkout_that_stripe_left_in_doubt_is_taken_back(
    client: AsyncClient, database: Database, tenant_id: UUID, gateways: Gateways, stripe: Stripe
) -> None:
    await client.post(PATH, json=ACCOUNT)
    payment = await held(database, gateways, tenant_id)
    (intent,) = stripe.intents.values()
    async with database.tenant(tenant_id) as session:
        await payments.authorized(session, payment, gateway_id=intent["id"], by=CLI)
    intent |= {"status": "succeeded", "amount_received": 2_000}  # taken, and the answer was lost
    undone = await undoing.undo(database, gateways, tenant_id, payment, by=CLI)
    assert (undone.status, undone.refunded_minor) == ("captured", 2_000)
    assert [one["amount"] for one in stripe.refunds.values()] == [2_000]
