"""Stripe: PaymentIntents that are captured by hand, under idempotency keys.

Cards are declined with 402, and requests that make no sense with 400 or 404: both are final. Credentials that are not
taken, limits and errors of Stripe's own are asked again, under the same key.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx

from integrations.payments.port import (
    Authorization,
    DeclinedError,
    GatewayError,
    GivenBack,
    RefundStatus,
    Request,
    State,
    Status,
)
from integrations.payments.stripe_amounts import from_stripe, to_stripe

BASE_URL: Final = "https://api.stripe.com"
VERSION: Final = "2025-03-31.basil"
"""Of the API: what answers look like."""
ANSWER_SECONDS: Final = 15.0
"""Less than the store lets a transaction wait."""

_MAX_ANSWER: Final = 1_000_000
_MAX_WORDS: Final = 500
_FINAL: Final = frozenset({400, 402, 404})
_UNEXPECTED: Final = "payment_intent_unexpected_state"
_STATUSES: Final[Mapping[str, Status]] = {
    "requires_payment_method": "failed",
    "requires_confirmation": "pending",
    "requires_action": "action_required",
    "processing": "pending",
    "requires_capture": "authorized",
    "succeeded": "captured",
    "canceled": "voided",
}
_REFUNDS: Final[Mapping[str, RefundStatus]] = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}
_REFUNDS_LISTED: Final = 100


@dataclass(frozen=True, slots=True)
class StripeAccount:
    """How Stripe is asked."""

    secret_key: str = field(repr=False)
    base_url: str = BASE_URL


class StripeGateway:
    """One account with Stripe."""

    def __init__(self, account: StripeAccount, client: httpx.AsyncClient) -> None:
        """Ask by `client`, which stays open."""
        self._account = account
        self._client = client

    @property
    def name(self) -> str:
        """`stripe`."""
        return "stripe"

    async def authorize(self, request: Request) -> Authorization:
        """Make and confirm a PaymentIntent that is captured later."""
        intent = await self._ask(
            "POST",
            "payment_intents",
            {
                "amount": to_stripe(request.amount_minor, request.currency),
                "currency": request.currency.lower(),
                "capture_method": "manual",
                "confirm": "true",
                "payment_method": request.method,
                "automatic_payment_methods[enabled]": "true",
                "automatic_payment_methods[allow_redirects]": "never",
                **{f"metadata[{name}]": value for name, value in request.metadata.items()},
            },
            key=request.key,
        )
        gateway_id, state = _id(intent), state_of(intent)
        if state.status == "authorized":
            return Authorization(gateway_id, "authorized")
        if state.status == "captured":
            return Authorization(gateway_id, "captured")
        if state.status in {"action_required", "pending"}:
            secret = intent.get("client_secret")
            return Authorization(gateway_id, "action_required", str(secret) if secret else None)
        raise DeclinedError(state.code or "declined", state.message or "The payment was declined.")

    async def capture(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> State:
        """Capture; an intent that was captured before is as good."""
        form = {"amount_to_capture": to_stripe(amount_minor, currency)}
        try:
            return state_of(await self._ask("POST", f"payment_intents/{gateway_id}/capture", form, key=key))
        except DeclinedError as error:
            state = await self._instead(gateway_id, error)
            if state.status != "captured":
                raise
            return state

    async def void(self, gateway_id: str, key: str) -> State:
        """Cancel; an intent that cannot be cancelled any more is as it is."""
        try:
            return state_of(await self._ask("POST", f"payment_intents/{gateway_id}/cancel", {}, key=key))
        except DeclinedError as error:
            return await self._instead(gateway_id, error)

    async def refund(self, gateway_id: str, amount_minor: int, currency: str, key: str) -> GivenBack:
        """Make a Refund."""
        form = {"payment_intent": gateway_id, "amount": to_stripe(amount_minor, currency), "metadata[key]": key}
        return refund_of(await self._ask("POST", "refunds", form, key=key))

    async def fetch(self, gateway_id: str) -> State:
        """Read the PaymentIntent."""
        return state_of(await self._ask("GET", f"payment_intents/{gateway_id}"))

    async def find_refund(self, gateway_id: str, key: str) -> GivenBack | None:
        """Look through the intent's refunds for the one with the key."""
        query = {"payment_intent": gateway_id, "limit": str(_REFUNDS_LISTED)}
        listed = (await self._ask("GET", "refunds", query)).get("data")
        for each in cast("list[dict[str, Any]]", listed) if isinstance(listed, list) else []:
            metadata: Mapping[str, Any] = each.get("metadata") or {}
            if metadata.get("key") == key:
                return refund_of(each)
        return None

    async def fetch_refund(self, refund_id: str) -> GivenBack:
        """Read the Refund."""
        return refund_of(await self._ask("GET", f"refunds/{refund_id}"))

    async def check(self) -> str:
        """Read the balance, which any key for the server may; say whether it is a test key."""
        try:
            found = await self._ask("GET", "balance")
        except _RefusedError as error:
            raise DeclinedError("credentials", str(error)) from error
        return "the account's balance in live mode" if found.get("livemode") else "the account's balance in test mode"

    async def _instead(self, gateway_id: str, error: DeclinedError) -> State:
        """Return where an intent stands that is not in the state for what was asked."""
        if error.code != _UNEXPECTED:
            raise error
        return await self.fetch(gateway_id)

    async def _ask(
        self, method: str, path: str, form: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> Mapping[str, Any]:
        url = f"{self._account.base_url.rstrip('/')}/v1/{path}"
        headers = {"Authorization": f"Bearer {self._account.secret_key}", "Stripe-Version": VERSION}
        if key is not None:
            headers["Idempotency-Key"] = key
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"  # also where there is nothing to say
        params, data = (form, None) if method == "GET" else (None, form)
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._client.stream(method, url, headers=headers, params=params, data=data) as response,
            ):
                content = b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MAX_ANSWER:
                        break
                return _answered(response.status_code, content)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise GatewayError(f"no answer: {type(error).__name__}") from error


class _RefusedError(GatewayError):
    """The credentials are not taken; the account can be mended, so what was asked waits."""


def state_of(intent: Mapping[str, Any]) -> State:
    """Return where a PaymentIntent stands, as answers and notices show it.

    Raises:
        GatewayError: it shows no status that we know.
    """
    status = _STATUSES.get(str(intent.get("status")))
    if status is None:
        raise GatewayError("a payment intent without a known status")
    if status == "captured":
        return State("captured", from_stripe(int(intent.get("amount_received") or 0), str(intent.get("currency"))))
    if status == "failed":
        problem = intent.get("last_payment_error")
        if not isinstance(problem, dict):
            return State("pending")  # it was just made
        error = cast("dict[str, Any]", problem)
        return State("failed", code=_code(error), message=str(error.get("message") or "")[:_MAX_WORDS])
    return State(status)


def refund_of(refund: Mapping[str, Any]) -> GivenBack:
    """Return where a Refund stands, as answers and notices show it."""
    reason = refund.get("failure_reason")
    status: RefundStatus = _REFUNDS.get(str(refund.get("status"))) or "pending"
    return GivenBack(_id(refund), status, None if reason is None else str(reason)[:_MAX_WORDS])


def _answered(status: int, content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    body = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if 200 <= status < 300 and body:  # noqa: PLR2004 - HTTP's
        return body
    told = body.get("error")
    error = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    message = str(error.get("message") or f"HTTP {status}")[:_MAX_WORDS]
    if status in _FINAL and error and error.get("type") != "idempotency_error":
        raise DeclinedError(_code(error), message)
    if status in {401, 403}:
        raise _RefusedError(f"{status}: {message}")
    raise GatewayError(f"{status}: {message}")


def _code(error: Mapping[str, Any]) -> str:
    """Return the most telling of an error's words."""
    return str(error.get("decline_code") or error.get("code") or error.get("type") or "declined")[:_MAX_WORDS]


def _id(thing: Mapping[str, Any]) -> str:
    found = thing.get("id")
    if not isinstance(found, str):
        raise GatewayError("an answer without an id")
    return found
