"""Taking a payment back whose checkout came to nothing: let go what is held, give back what was taken.

The gateway is asked outside of any transaction, under keys of the payment's own, so that it may be done again at any
point. The relay does it for whatever a crash left: no captured payment stays without an order.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text

from core.actor import SYSTEM, Actor
from core.database import Database, TenantSession
from core.errors import ConflictError
from core.logging import get_logger
from integrations.payments.port import DeclinedError, GatewayError, State
from models import Cart, Payment
from services.commerce import payments
from services.commerce.gateways import Gateways

STRAY_AFTER: Final = timedelta(minutes=15)
"""How long a payment without an order is left to its checkout, where the cart shows none at work."""
_PAGE: Final = 100
# the words of the index's predicate
_STRAY: Final = text("order_id IS NULL AND status IN ('authorized', 'captured') AND refunded_minor = 0")

_log = get_logger(__name__)


async def undo(database: Database, gateways: Gateways, tenant_id: UUID, payment_id: UUID, *, by: Actor) -> Payment:
    """Void a payment, or give back all that was taken; return what is true then. A second time it changes nothing.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it has an order, or its account cannot be used.
        GatewayError: the gateway does not answer; ask again.
        DeclinedError: the gateway refuses to give it back.
    """
    async with database.tenant(tenant_id) as session:
        payment = await payments.get(session, payment_id)
        if payment.order_id is not None:
            raise ConflictError("The payment is an order's: refund that.")
        if payment.gateway_id is None:
            return await payments.failed(session, payment_id, code="given_up", message="It was not asked for.", by=by)
        gateway = await gateways.of(session, payment)
    gateway_id = payment.gateway_id
    if payment.status != "captured":
        state = await gateway.void(gateway_id, f"void:{payment_id}")
        async with database.tenant(tenant_id) as session:
            payment = await told(session, payment_id, state, gateway_id=gateway_id, by=by)
    left = payment.captured_minor - payment.refunded_minor
    if payment.status == "captured" and left > 0:
        await gateway.refund(gateway_id, left, payment.currency, f"undo:{payment_id}")
        async with database.tenant(tenant_id) as session:
            payment = await payments.given_back(session, payment_id, by=by)
    return payment


async def told(session: TenantSession, payment_id: UUID, state: State, *, gateway_id: str, by: Actor) -> Payment:
    """Note where a payment stands at the gateway; return what is true now.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it has another id at the gateway, or more was taken than was asked for.
    """
    match state.status:
        case "authorized":
            return await payments.authorized(session, payment_id, gateway_id=gateway_id, by=by)
        case "captured":
            taken = state.captured_minor
            return await payments.captured(session, payment_id, amount_minor=taken, gateway_id=gateway_id, by=by)
        case "voided":
            return await payments.voided(session, payment_id, by=by)
        case "failed":
            code, message = state.code or "declined", state.message or ""
            return await payments.failed(session, payment_id, code=code, message=message, by=by)
        case "pending" | "action_required":
            return await payments.asked(session, payment_id, gateway_id=gateway_id)


async def undo_strays(database: Database, gateways: Gateways, *, after: timedelta = STRAY_AFTER) -> int:
    """Take back what is held or was taken for checkouts that are over without an order; return how many payments."""
    async with database.system() as system:
        rows = await system.execute(
            select(Payment.tenant_id, Payment.id)
            .where(
                _STRAY,
                Payment.updated_at < func.now() - after,
            )
            .order_by(Payment.updated_at)
            .limit(_PAGE)
        )
        found = rows.all()
    count = 0
    for tenant_id, payment_id in found:
        async with database.tenant(tenant_id) as session:
            if await _at_work(session, payment_id):
                continue
        try:
            await undo(database, gateways, tenant_id, payment_id, by=SYSTEM)
        except (GatewayError, DeclinedError, ConflictError) as error:
            _log.warning("stray_payment_stays", tenant=str(tenant_id), payment=str(payment_id), error=str(error))
            async with database.tenant(tenant_id) as session:
                await payments.waits(session, payment_id)
        else:
            count += 1
    return count


async def _at_work(session: TenantSession, payment_id: UUID) -> bool:
    """Whether the checkout that began it may still make an order."""
    found = await session.scalar(
        select(Payment.id)
        .join(Cart, (Cart.tenant_id == Payment.tenant_id) & (Cart.id == Payment.cart_id))
        .where(
            Payment.tenant_id == session.tenant_id,
            Cart.tenant_id == session.tenant_id,
            Payment.id == payment_id,
            Cart.status == "checking_out",
            Cart.attempt == Payment.attempt,
        )
    )
    return found is not None
