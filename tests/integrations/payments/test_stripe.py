"""Stripe's adapter: against Stripe's own mock of its API, and a server that declines, breaks off and remembers."""

import json
import os
import time
from collections.abc import AsyncGenerator

import httpx
import pytest

from integrations.payments import stripe
from integrations.payments.notices import ForgedNoticeError, MalformedNoticeError, read, signature, verify
from integrations.payments.port import DeclinedError, GatewayError, Request
from integrations.payments.stripe import StripeAccount, StripeGateway
from integrations.payments.stripe_amounts import from_stripe, to_stripe
from stack.processes import StackError
from tests import servers
from tests.providers.stripe import KEY, Stripe, running


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
async def server() -> AsyncGenerator[Stripe]:
    async with running() as server:
        yield server


@pytest.fixture
def gateway(server: Stripe, client: httpx.AsyncClient) -> StripeGateway:
    return StripeGateway(StripeAccount(KEY, server.url), client)


def asked(method: str = "pm_card_visa", key: str = "payment:1") -> Request:
    return Request(key=key, amount_minor=1_250, currency="EUR", method=method, metadata={"payment_id": "1"})


async def test_every_request_is_one_that_stripe_describes(client: httpx.AsyncClient) -> None:
    try:
        url = servers.ask("stripe-mock")
    except StackError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs stripe-mock: {error}")
    gateway = StripeGateway(StripeAccount("sk_test_123", url), client)
    # its answers are examples: an intent that failed before, whatever is asked
    with pytest.raises(DeclinedError, match="was declined"):
        await gateway.authorize(asked())
    for state in (
        await gateway.capture("pi_1", 1_250, "EUR", "c"),
        await gateway.void("pi_1", "v"),
        await gateway.fetch("pi_1"),
    ):
        assert state.status
    given = await gateway.refund("pi_1", 500, "EUR", "refund:1")
    assert given.gateway_id.startswith("re_")
    assert (await gateway.fetch_refund(given.gateway_id)).gateway_id.startswith("re_")
    assert await gateway.find_refund("pi_1", "no such key") is None
    assert "test mode" in await gateway.check()
    with pytest.raises(DeclinedError, match="additional properties"):
        await gateway._ask(  # pyright: ignore[reportPrivateUsage]  # what it does not know, it refuses
            "POST", "refunds", {"nonsense": "1"}
        )


async def test_money_is_held_taken_and_given_back(server: Stripe, gateway: StripeGateway) -> None:
    held = await gateway.authorize(asked())
    assert (held.status, await gateway.authorize(asked())) == ("authorized", held)
    assert len(server.intents) == 1, "under its key it is the same request"
    taken = await gateway.capture(held.gateway_id, 1_250, "EUR", "capture:1")
    assert (taken.status, taken.captured_minor) == ("captured", 1_250)
    assert await gateway.capture(held.gateway_id, 1_250, "EUR", "another key") == taken, "it was taken before"
    assert await gateway.void(held.gateway_id, "void:1") == taken, "what was taken is not let go"
    given = await gateway.refund(held.gateway_id, 500, "EUR", "refund:1")
    assert (given.status, await gateway.find_refund(held.gateway_id, "refund:1")) == ("succeeded", given)
    other = await gateway.authorize(asked(key="payment:2"))
    assert (await gateway.void(other.gateway_id, "void:2")).status == "voided"
    with pytest.raises(DeclinedError, match="unexpected_state"):
        await gateway.capture(other.gateway_id, 1_250, "EUR", "capture:2")


async def test_what_is_final_is_told_from_what_is_asked_again(
    server: Stripe, gateway: StripeGateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeclinedError) as declined:
        await gateway.authorize(asked("pm_card_chargeDeclinedInsufficientFunds"))
    assert (declined.value.code, declined.value.message) == ("insufficient_funds", "Your card has insufficient funds.")
    action = await gateway.authorize(asked("pm_card_authenticationRequired", "payment:2"))
    assert (action.status, action.client_secret) == ("action_required", "pi_secret")
    monkeypatch.setattr(stripe, "ANSWER_SECONDS", 0.3)
    for status in (500, 429, 409, 0):
        server.broken = [status]
        with pytest.raises(GatewayError):
            await gateway.authorize(asked(key="payment:3"))
    assert (await gateway.authorize(asked(key="payment:3"))).status == "authorized"
    assert len(server.intents) == 2, "asked five times, held once"
    stranger = StripeGateway(StripeAccount("sk_test_stranger", server.url), client)
    with pytest.raises(GatewayError, match="Invalid API Key"):
        await stranger.authorize(asked())
    with pytest.raises(DeclinedError, match="Invalid API Key"):
        await stranger.check()
    with pytest.raises(DeclinedError, match="resource_missing"):
        await gateway.fetch("pi_of_somebody")


def test_amounts_are_written_as_stripe_counts_them() -> None:
    for minor, currency, text in (
        (1_250, "EUR", "1250"),
        (500, "JPY", "500"),
        (5, "ISK", "500"),
        (1_230, "KWD", "1230"),
    ):
        assert to_stripe(minor, currency) == text
        assert from_stripe(int(text), currency.lower()) == minor
    for minor, currency in ((1_234, "KWD"), (150, "MGA")):
        with pytest.raises(DeclinedError, match="amount"):
            to_stripe(minor, currency)


def test_a_notice_is_taken_by_its_signature_and_while_it_is_new() -> None:
    body, now = b'{"id": "evt_1", "type": "payment_intent.created"}', int(time.time())
    header = signature(body, "whsec_1", now)
    verify(body, header, "whsec_1", now=now + 299)
    verify(body, f"{header},v1=00,v0=x", "whsec_1", now=now)
    for content, text, secret, at in (
        (body + b" ", header, "whsec_1", now),
        (body, header, "whsec_2", now),
        (body, header, "whsec_1", now + 301),
        (body, header, "whsec_1", now - 301),
        (body, header.replace(f"t={now}", f"t={now + 1}"), "whsec_1", now),
        (body, "", "whsec_1", now),
        (body, f"t={now},v1=é", "whsec_1", now),
    ):
        with pytest.raises(ForgedNoticeError):
            verify(content, text, secret, now=at)
    for malformed in (b"x", b"[]", b"{}", b'{"id": "e", "type": "t", "data": {"object": {"object": "refund"}}}'):
        with pytest.raises(MalformedNoticeError):
            read(malformed)
    made = {"object": "payment_intent", "id": "pi", "status": "requires_payment_method"}
    found = read(json.dumps({"id": "e", "type": "t", "data": {"object": made}}).encode())
    assert found.state is not None
    assert found.state.status == "pending", "an intent that was just made has not failed"
