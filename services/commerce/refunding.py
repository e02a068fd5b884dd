"""Asking gateways for refunds: outside of any transaction, at once and by the relay for what is left pending."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text

from core.actor import SYSTEM, Actor
from core.database import Database
from core.errors import ConflictError
from core.logging import get_logger
from integrations.payments.port import DeclinedError, Gateway, GatewayError, GivenBack
from models import Refund
from services.commerce import payments, refunds
from services.commerce.gateways import Gateways

AGAIN_AFTER: Final = timedelta(minutes=1)
"""How long a pending refund is left to whoever asked for it."""
KEYS_LAST: Final = timedelta(hours=20)
"""Gateways forget keys after a day or more: from then on a refund is looked for before it is asked for again."""
_PAGE: Final = 100

_log = get_logger(__name__)


async def ask(database: Database, gateways: Gateways, tenant_id: UUID, refund_id: UUID, *, by: Actor) -> Refund:
    """Ask the gateway for a pending refund; return what is true then. It stays pending where there is no answer.

    Raises:
        NotFoundError: no such refund.
    """
    async with database.tenant(tenant_id) as session:
        refund = await refunds.get(session, refund_id)
        if refund.status != "pending" or refund.payment_id is None:
            return refund
        payment = await payments.get(session, refund.payment_id)
        try:
            gateway = await gateways.of(session, payment)
        except ConflictError as error:
            _log.warning("refund_waits", tenant=str(tenant_id), refund=str(refund_id), error=error.detail)
            return await refunds.waits(session, refund_id)
    if payment.gateway_id is None:
        raise AssertionError("what was captured has an id at its gateway")
    try:
        said = await _said(gateway, payment.gateway_id, refund)
    except DeclinedError as error:
        async with database.tenant(tenant_id) as session:
            return await refunds.refused(session, refund_id, code=error.code, message=error.message, by=by)
    except GatewayError as error:
        _log.warning("refund_waits", tenant=str(tenant_id), refund=str(refund_id), error=str(error))
        async with database.tenant(tenant_id) as session:
            return await refunds.waits(session, refund_id)
    async with database.tenant(tenant_id) as session:
        return await refunds.settle(session, refund_id, said, by=by)


async def ask_pending(database: Database, gateways: Gateways, *, after: timedelta = AGAIN_AFTER) -> int:
    """Ask for refunds of all tenants that are pending for a while; return how many were settled."""
    async with database.system() as system:
        rows = await system.execute(
            select(Refund.tenant_id, Refund.id)
            .where(text("status = 'pending'"), Refund.updated_at < func.now() - after)
            .order_by(Refund.updated_at)
            .limit(_PAGE)
        )
        found = rows.all()
    count = 0
    for tenant_id, refund_id in found:
        try:
            refund = await ask(database, gateways, tenant_id, refund_id, by=SYSTEM)
        except ConflictError as error:
            _log.error("refund_beyond_capture", tenant=str(tenant_id), refund=str(refund_id), error=error.detail)
        else:
            count += refund.status != "pending"
    return count


async def _said(gateway: Gateway, gateway_id: str, refund: Refund) -> GivenBack:
    key = f"refund:{refund.id}"
    if refund.gateway_id is not None:
        return await gateway.fetch_refund(refund.gateway_id)
    if refund.created_at < datetime.now(UTC) - KEYS_LAST:
        known = await gateway.find_refund(gateway_id, key)
        if known is not None:
            return known
    return await gateway.refund(gateway_id, refund.amount_minor, refund.currency, key)
