"""Money asked of somebody for a checkout: what the gateway answered and what its notices say, in whatever order.

A payment only ever moves up: pending < authorized < failed < voided < captured. Its state is the highest of all that
was told of it, so answers and notices may come twice, late or the wrong way round. What was taken always shows.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from contracts.events import PAYMENT_AUTHORIZED, PAYMENT_CAPTURED, PAYMENT_FAILED, PAYMENT_REFUNDED, PAYMENT_VOIDED
from core import currency as currencies
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Payment, PaymentAccount
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_WORDS: Final = 500
"""Characters kept of what a gateway says."""
RANK: Final = {name: rank for rank, name in enumerate(("pending", "authorized", "failed", "voided", "captured"))}
"""How far each state is: the higher one holds."""

_EVENTS: Final = {
    "authorized": PAYMENT_AUTHORIZED,
    "failed": PAYMENT_FAILED,
    "voided": PAYMENT_VOIDED,
    "captured": PAYMENT_CAPTURED,
}


async def open(  # noqa: A001 - a payment is opened
    session: TenantSession, *, cart_id: UUID, attempt: int, amount_minor: int, currency: str
) -> Payment:
    """Begin a payment by the tenant's active account, or the local gateway; once for each attempt of a cart.

    Raises:
        InvalidError: the amount is not more than zero, or the currency is not known.
        ConflictError: the attempt has a payment of another amount.
    """
    if amount_minor <= 0:
        raise InvalidError.of("amount", "must be more than zero")
    if currency not in currencies.EXPONENTS:
        raise InvalidError.of("currency", "is not a currency code of ISO 4217")
    account = (
        await session.execute(
            select(PaymentAccount.id, PaymentAccount.gateway).where(
                PaymentAccount.tenant_id == session.tenant_id, PaymentAccount.active.is_(True)
            )
        )
    ).one_or_none()
    made = await session.scalar(
        insert(Payment)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            cart_id=cart_id,
            attempt=attempt,
            account_id=None if account is None else account.id,
            gateway="local" if account is None else account.gateway,
            currency=currency,
            amount_minor=amount_minor,
        )
        .on_conflict_do_nothing()
        .returning(Payment)
    )
    if made is not None:
        return made
    known = await session.scalar(
        select(Payment).where(
            Payment.tenant_id == session.tenant_id, Payment.cart_id == cart_id, Payment.attempt == attempt
        )
    )
    if known is None or (known.amount_minor, known.currency) != (amount_minor, currency):
        raise ConflictError("This attempt has a payment of another amount.")
    return known


async def get(session: TenantSession, payment_id: UUID, *, lock: bool = False) -> Payment:
    """Return a payment.

    Raises:
        NotFoundError: no such payment in this tenant.
    """
    payment = await session.get(
        Payment,
        (session.tenant_id, payment_id),
        with_for_update={"key_share": True} if lock else None,
        populate_existing=True,
    )
    if payment is None:
        raise NotFoundError("No such payment.")
    return payment


async def page(
    session: TenantSession, *, order_id: UUID | None, cart_id: UUID | None, limit: int, before: UUID | None
) -> Sequence[Payment]:
    """Return up to `limit` payments, the last first, those before `before` only; of an order or a cart where named."""
    statement = select(Payment).where(Payment.tenant_id == session.tenant_id)
    if order_id is not None:
        statement = statement.where(Payment.order_id == order_id)
    if cart_id is not None:
        statement = statement.where(Payment.cart_id == cart_id)
    if before is not None:
        statement = statement.where(Payment.id < before)
    return (await session.scalars(statement.order_by(Payment.id.desc()).limit(limit))).all()


async def asked(session: TenantSession, payment_id: UUID, *, gateway_id: str) -> Payment:
    """Note the gateway's own id of a payment that the payer has to confirm.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it has another id at the gateway.
    """
    payment = await get(session, payment_id, lock=True)
    if payment.gateway_id is None:
        payment.gateway_id = gateway_id
        payment.updated_at = func.clock_timestamp()
        await session.flush()
        await session.refresh(payment)
    elif payment.gateway_id != gateway_id:
        raise ConflictError("The gateway has another payment for this.")
    return payment


async def authorized(session: TenantSession, payment_id: UUID, *, gateway_id: str, by: Actor) -> Payment:
    """Note that the gateway holds the money; return what is true now, which may be more, or that it was let go.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it has another id at the gateway.
    """
    payment = await asked(session, payment_id, gateway_id=gateway_id)
    return await _raised(session, payment, "authorized", by=by)


async def captured(
    session: TenantSession, payment_id: UUID, *, amount_minor: int, by: Actor, gateway_id: str | None = None
) -> Payment:
    """Note that the gateway took so much in all; return what is true now.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it is more than was asked for, or nothing, or the payment has another id at the gateway.
    """
    payment = await get(session, payment_id, lock=True)
    if gateway_id is not None:
        payment = await asked(session, payment_id, gateway_id=gateway_id)
    if not 0 < amount_minor <= payment.amount_minor:
        raise ConflictError(f"{amount_minor} is not from 1 to {payment.amount_minor}, what was asked for.")
    more = amount_minor > payment.captured_minor
    payment.captured_minor = max(payment.captured_minor, amount_minor)
    payment = await _raised(session, payment, "captured", by=by)
    if more:
        await session.flush()
    return payment


async def voided(session: TenantSession, payment_id: UUID, *, by: Actor) -> Payment:
    """Note that the gateway holds nothing any more; return what is true now.

    Raises:
        NotFoundError: no such payment.
    """
    return await _raised(session, await get(session, payment_id, lock=True), "voided", by=by)


async def failed(session: TenantSession, payment_id: UUID, *, code: str, message: str, by: Actor) -> Payment:
    """Note that the gateway refused; return what is true now.

    Raises:
        NotFoundError: no such payment.
    """
    payment = await get(session, payment_id, lock=True)
    if RANK[payment.status] < RANK["failed"]:
        payment.failure = {"code": code[:MAX_WORDS], "message": message[:MAX_WORDS]}
    return await _raised(session, payment, "failed", by=by)


async def waits(session: TenantSession, payment_id: UUID) -> None:
    """Note that a payment was looked after without success, so that others have their turn first."""
    payment = await get(session, payment_id, lock=True)
    payment.updated_at = func.clock_timestamp()
    await session.flush()


async def given_back(session: TenantSession, payment_id: UUID, *, by: Actor) -> Payment:
    """Note that all that was taken for a checkout without an order was given back.

    Raises:
        NotFoundError: no such payment.
        ConflictError: it has an order, whose refunds count.
    """
    payment = await get(session, payment_id, lock=True)
    if payment.order_id is not None:
        raise ConflictError("The payment is an order's: refund that.")
    before, payment.refunded_minor = payment.refunded_minor, payment.captured_minor
    if before != payment.refunded_minor:
        payment.updated_at = func.clock_timestamp()
        await session.flush()
        await session.refresh(payment)
        changes = {"refunded": (_shown(payment, before), _shown(payment, payment.refunded_minor))}
        await _report(session, payment, PAYMENT_REFUNDED, changes, by=by)
    return payment


async def _raised(session: TenantSession, payment: Payment, status: str, *, by: Actor) -> Payment:
    """Bring a locked payment up to `status`, unless it is there or beyond."""
    before = payment.status
    if RANK[status] <= RANK[before]:
        return payment
    payment.status = status
    if status != "failed":
        payment.failure = None
    payment.updated_at = func.clock_timestamp()
    await session.flush()
    await session.refresh(payment)
    changes: dict[str, tuple[str | None, str | None]] = {"status": (before, status)}
    if payment.failure is not None:
        changes["code"] = (None, payment.failure["code"])
    if status == "captured":
        changes["captured"] = (None, _shown(payment, payment.captured_minor))
    await _report(session, payment, _EVENTS[status], changes, by=by)
    return payment


def _shown(payment: Payment, minor: int) -> str:
    return f"{currencies.from_minor(minor, payment.currency)} {payment.currency}"


async def _report(session: TenantSession, payment: Payment, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="payment", subject_id=payment.id, type=verb, changes=changes)
    properties = {
        "cart_id": str(payment.cart_id),
        "attempt": payment.attempt,
        "order_id": None if payment.order_id is None else str(payment.order_id),
        "gateway": payment.gateway,
        "amount": str(currencies.from_minor(payment.amount_minor, payment.currency)),
        "currency": payment.currency,
        **({} if payment.failure is None else {"code": payment.failure["code"]}),
    }
    await publish(session, [NewEvent(verb, payment.id, subject_type="payment", properties=properties)])
