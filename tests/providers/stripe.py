"""What Stripe's own mock cannot do: cards that are declined, or ask for 3-D Secure, servers that do not answer, and
PaymentIntents that remember what became of them. Requests under a known key get the first answer.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.providers.serving import serving

KEY = "sk_test_shop"


@dataclass
class Stripe:
    """A server. `broken` are the statuses that the next requests get, after they were acted on; 0 is no answer."""

    url: str = ""
    broken: list[int] = field(default_factory=list[int])
    intents: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict[str, tuple[int, dict[str, Any]]])

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/{path:path}", self._serve, methods=["GET", "POST"])])

    async def _serve(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"type": "invalid_request_error", "message": "Invalid API Key"}}, 401)
        form = {name: str(value) for name, value in (await request.form()).items()} | dict(request.query_params)
        key = request.headers.get("idempotency-key", uuid4().hex)
        if key not in self.answers:
            self.answers[key] = self._answer(request.method, request.path_params["path"].split("/"), form)
        status, body = self.answers[key]
        if self.broken:
            broken = self.broken.pop(0)
            if broken == 0:
                await asyncio.sleep(1)  # longer than the test waits
            return JSONResponse({"error": {"type": "api_error", "message": "Sorry."}}, broken)
        return JSONResponse(body, status)

    def _answer(self, method: str, path: list[str], form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        match method, path:
            case "POST", ["payment_intents"]:
                return self._confirm(form)
            case "GET", ["payment_intents", name] if name in self.intents:
                return 200, self.intents[name]
            case "POST", ["payment_intents", name, "capture" | "cancel" as verb] if name in self.intents:
                return self._end(self.intents[name], verb, form)
            case "POST", ["refunds"]:
                made: dict[str, Any] = {"object": "refund", "id": f"re_{uuid4().hex}", "amount": int(form["amount"])}
                made |= {"payment_intent": form["payment_intent"], "status": "succeeded"}
                made |= {"currency": "eur", "metadata": {"key": form["metadata[key]"]}}
                self.refunds[made["id"]] = made
                return 200, made
            case "GET", ["refunds"]:
                mine = [one for one in self.refunds.values() if one["payment_intent"] == form["payment_intent"]]
                return 200, {"object": "list", "data": mine}
            case _:
                known = {"object": "balance", "livemode": False}
                return (200, known) if path == ["balance"] else (404, _error("resource_missing", "No such thing."))

    def _confirm(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        method = form["payment_method"]
        if method == "pm_card_chargeDeclinedInsufficientFunds":
            return 402, {
                "error": {
                    "type": "card_error",
                    "code": "card_declined",
                    "decline_code": "insufficient_funds",
                    "message": "Your card has insufficient funds.",
                }
            }
        asks = method == "pm_card_authenticationRequired"
        intent: dict[str, Any] = {"object": "payment_intent", "id": f"pi_{uuid4().hex}", "amount": int(form["amount"])}
        intent |= {"currency": form["currency"], "amount_received": 0, "client_secret": "pi_secret"}
        intent |= {"status": "requires_action" if asks else "requires_capture"}
        intent["metadata"] = {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")}
        self.intents[intent["id"]] = intent
        return 200, intent

    def _end(self, intent: dict[str, Any], verb: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if intent["status"] not in {"requires_capture", "requires_action"}:
            return 400, _error("payment_intent_unexpected_state", f"It is {intent['status']}.")
        if verb == "cancel":
            intent["status"] = "canceled"
        else:
            intent |= {"status": "succeeded", "amount_received": int(form["amount_to_capture"])}
        return 200, dict(intent)


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "code": code, "message": message}}


@asynccontextmanager
async def running() -> AsyncGenerator[Stripe]:
    """Run one."""
    stripe = Stripe()
    async with serving(stripe.app()) as url:
        stripe.url = url
        yield stripe
