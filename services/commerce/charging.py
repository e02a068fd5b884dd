"""Asking a gateway for an attempt's money: first that it is promised, then that it is taken.

The gateway is asked outside of any transaction, under keys of the payment's own: asked again it is the same request.
What is known already, from an earlier answer or a notice that came first, is not asked for again.
"""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from core.actor import Actor
from core.database import Database
from core.errors import ConflictError
from integrations.payments.port import Authorization, DeclinedError, Gateway, GatewayError, Request, State
from models import Payment
from services.commerce import checkout, payments, undoing
from services.commerce.gateways import Gateways

Stand = Literal["action_required", "authorized", "captured", "declined"]
_STANDS: Final[dict[str, Stand]] = {
    "pending": "action_required",
    "authorized": "authorized",
    "captured": "captured",
    "failed": "declined",
    "voided": "declined",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a payment stands."""

    status: Stand
    reason: str | None = None
    """The gateway's code, of `declined`."""


async def authorize(
    database: Database, gateways: Gateways, tenant_id: UUID, payment_id: UUID, *, method: str | None, by: Actor
) -> Answer:
    """Have the money promised, or look whether the buyer has confirmed it meanwhile.

    Raises:
        NotFoundError: no such payment.
        ConflictError: its account cannot be used.
        GatewayError: the gateway does not answer; ask again.
    """
    async with database.tenant(tenant_id) as session:
        payment = await payments.get(session, payment_id)
        if payment.status != "pending":
            return _answer(payment)
        gateway = await gateways.of(session, payment)
    try:
        if payment.gateway_id is not None:
            state, gateway_id = await gateway.fetch(payment.gateway_id), payment.gateway_id
            secret = None
        else:
            asked = await gateway.authorize(_request(payment, method))
            state, gateway_id = _state(asked, payment), asked.gateway_id
            secret = asked.client_secret
    except DeclinedError as error:
        async with database.tenant(tenant_id) as session:
            return _answer(await payments.failed(session, payment_id, code=error.code, message=error.message, by=by))
    async with database.tenant(tenant_id) as session:
        if secret is not None and state.status == "action_required":
            await checkout.acting(session, payment.cart_id, payment.attempt, secret)
        return _answer(await undoing.told(session, payment_id, state, gateway_id=gateway_id, by=by))


async def capture(database: Database, gateways: Gateways, tenant_id: UUID, payment_id: UUID, *, by: Actor) -> Answer:
    """Take the money that was promised.

    Raises:
        NotFoundError: no such payment.
        ConflictError: its account cannot be used, or it was not promised.
        GatewayError: the gateway does not answer; ask again.
    """
    async with database.tenant(tenant_id) as session:
        payment = await payments.get(session, payment_id)
        if payment.status != "authorized":
            return _answer(payment)
        gateway = await gateways.of(session, payment)
    if payment.gateway_id is None:
        raise ConflictError("The payment was not asked for.")
    try:
        state = await _captured(gateway, payment.gateway_id, payment)
    except DeclinedError as error:
        # What was promised is let go when the checkout is undone.
        return Answer("declined", error.code)
    async with database.tenant(tenant_id) as session:
        return _answer(await undoing.told(session, payment_id, state, gateway_id=payment.gateway_id, by=by))


async def _captured(gateway: Gateway, gateway_id: str, payment: Payment) -> State:
    try:
        return await gateway.capture(gateway_id, payment.amount_minor, payment.currency, f"capture:{payment.id}")
    except GatewayError:
        # It may have been done all the same, and only the answer was lost.
        state = await gateway.fetch(gateway_id)
        if state.status != "captured":
            raise
        return state


def _request(payment: Payment, method: str | None) -> Request:
    if method is None:
        raise DeclinedError("no_method", "Nothing was named to pay with.")
    return Request(
        key=f"authorize:{payment.id}",
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        method=method,
        metadata={
            "tenant_id": str(payment.tenant_id),
            "payment_id": str(payment.id),
            "cart_id": str(payment.cart_id),
            "attempt": str(payment.attempt),
        },
    )


def _state(asked: Authorization, payment: Payment) -> State:
    return State(asked.status, payment.amount_minor if asked.status == "captured" else 0)


def _answer(payment: Payment) -> Answer:
    return Answer(_STANDS[payment.status], None if payment.failure is None else payment.failure["code"])
