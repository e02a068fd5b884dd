"""Payments as checkouts make them, without a checkout."""

from typing import Final
from uuid import UUID, uuid4

from core.actor import CLI
from core.database import TenantSession
from integrations.payments.local import LocalGateway
from integrations.payments.port import Request
from models import Payment
from services.commerce import payments

LOCAL: Final = LocalGateway()


async def begun(
    session: TenantSession, amount_minor: int, *, cart_id: UUID | None = None, method: str | None = None
) -> Payment:
    """Begin a payment; with a method of the local gateway's it is authorized."""
    payment = await payments.open(
        session, cart_id=cart_id or uuid4(), attempt=1, amount_minor=amount_minor, currency="EUR"
    )
    if method is None:
        return payment
    request = Request(key=f"payment:{payment.id}", amount_minor=amount_minor, currency="EUR", method=method)
    held = await LOCAL.authorize(request)
    return await payments.authorized(session, payment.id, gateway_id=held.gateway_id, by=CLI)
