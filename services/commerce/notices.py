"""What gateways tell us on their own: taken once, in any order; what changes nothing is noted as that.

Money that a gateway holds for a payment we had given up is let go before the notice is noted: where that fails, the
gateway tells us again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import ConflictError
from core.logging import get_logger
from integrations.payments.notices import Notice
from models import Payment, PaymentNotice, Refund
from services.commerce import payments, refunds, undoing
from services.commerce.gateways import Gateways

NOTHING: Final = "nothing"
_REFUND: Final = "refund:"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a notice."""

    effect: str
    """The payment's or refund's new state, or `nothing`."""
    cart_id: UUID | None
    """Whose checkout may wait for it."""


async def take(
    database: Database, gateways: Gateways, tenant_id: UUID, account_id: UUID, notice: Notice, *, by: Actor
) -> Taken:
    """Take a notice that was verified; a second time it changes nothing.

    Raises:
        PaymentError: what the gateway holds for a payment that was given up cannot be let go; tell us again.
    """
    async with database.tenant(tenant_id) as session:
        payment = await _payment(session, account_id, notice)
        gateway = None if payment is None else await gateways.of(session, payment)
    late = payment is not None and payment.status in {"failed", "voided"}
    if payment is not None and gateway is not None and late and notice.state and notice.state.status == "authorized":
        state = await gateway.void(notice.gateway_id or "", f"void:{payment.id}")
        notice = Notice(notice.id, notice.type, notice.gateway_id, notice.payment_id, state)
    async with database.tenant(tenant_id) as session:
        key = {"tenant_id": tenant_id, "gateway": str(account_id), "notice_id": notice.id}
        values: Mapping[str, object] = key | {"type": notice.type, "effect": NOTHING}
        first = await session.scalar(
            insert(PaymentNotice).values(values).on_conflict_do_nothing().returning(PaymentNotice.notice_id)
        )
        effect = NOTHING if first is None or payment is None else await _effect(session, payment.id, notice, by=by)
        if effect != NOTHING:
            await session.execute(
                update(PaymentNotice)
                .where(
                    PaymentNotice.tenant_id == tenant_id,
                    PaymentNotice.gateway == str(account_id),
                    PaymentNotice.notice_id == notice.id,
                )
                .values(effect=effect)
            )
    waiting = payment is not None and payment.order_id is None and notice.state is not None
    return Taken(effect, payment.cart_id if payment is not None and waiting else None)


async def _payment(session: TenantSession, account_id: UUID, notice: Notice) -> Payment | None:
    """Return the account's payment that a notice is about; one that names ours by the id of another is about none."""
    if notice.gateway_id is None:
        return None
    mine = select(Payment).where(Payment.tenant_id == session.tenant_id, Payment.account_id == account_id)
    known = await session.scalar(mine.where(Payment.gateway_id == notice.gateway_id))
    if known is not None or notice.payment_id is None:
        return known
    try:
        named = UUID(notice.payment_id)
    except ValueError:
        return None
    return await session.scalar(mine.where(Payment.id == named, Payment.gateway_id.is_(None)))


async def _effect(session: TenantSession, payment_id: UUID, notice: Notice, *, by: Actor) -> str:
    try:
        async with session.begin_nested():
            if notice.state is not None and notice.gateway_id is not None:
                before = (await payments.get(session, payment_id, lock=True)).status
                after = await undoing.told(session, payment_id, notice.state, gateway_id=notice.gateway_id, by=by)
                return NOTHING if after.status == before else after.status
            return await _refunded(session, payment_id, notice, by=by)
    except ConflictError as error:
        _log.warning("notice_contradicts", notice=notice.id, type=notice.type, error=error.detail)
        return NOTHING


async def _refunded(session: TenantSession, payment_id: UUID, notice: Notice, *, by: Actor) -> str:
    said = notice.refund
    payment = await payments.get(session, payment_id)
    if said is None or payment.order_id is None:
        return NOTHING
    refund = await session.scalar(
        select(Refund).where(Refund.tenant_id == session.tenant_id, Refund.gateway_id == said.gateway_id)
    )
    if refund is None and notice.refund_key is not None:
        refund = await _asked_for(session, payment_id, notice.refund_key)
        if refund is None:
            return NOTHING
    elif refund is None:
        if said.status == "failed":
            return NOTHING
        refund = await refunds.request(
            session, payment.order_id, amount_minor=notice.refund_minor, reason="Made at the gateway.", by=by
        )
    before = refund.status
    after = await refunds.settle(session, refund.id, said, by=by)
    return NOTHING if after.status == before else f"refund {after.status}"


async def _asked_for(session: TenantSession, payment_id: UUID, key: str) -> Refund | None:
    try:
        refund_id = UUID(key.removeprefix(_REFUND)) if key.startswith(_REFUND) else None
    except ValueError:
        return None
    if refund_id is None:
        return None
    return await session.scalar(
        select(Refund).where(
            Refund.tenant_id == session.tenant_id, Refund.id == refund_id, Refund.payment_id == payment_id
        )
    )
