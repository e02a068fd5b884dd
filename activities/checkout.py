"""Activities of a checkout: each is one short transaction, or one question to a gateway between two."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, get_args
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.verdicts import verdict
from contracts.checkout import (
    AUTHORIZE,
    CAPTURE,
    CONFIRM,
    RELEASE_CHECKOUT,
    RESERVE,
    SETTLE,
    Attempt,
    CheckoutInput,
    Confirmed,
    Paid,
    RefusalCode,
    Released,
    ReleaseRequest,
    Reserved,
    ReserveRequest,
    SettleRequest,
)
from core.actor import SYSTEM, Actor
from core.database import Database
from core.errors import ConflictError, PlatformError
from integrations.payments.port import DeclinedError, GatewayError
from services.commerce import charging, checkout, undoing
from services.commerce.checkout_errors import ERRORS
from services.commerce.gateways import Gateways
from services.commerce.reserving import OutOfStockError
from services.identity.organization_ledger import CreditLimitError

_CODES: Final[dict[str, RefusalCode]] = {code: code for code in get_args(RefusalCode)}


class CheckoutActivities:
    """The store's and the gateways' side of checkouts, for one process."""

    def __init__(self, database: Database, gateways: Gateways) -> None:
        """Use these."""
        self._database = database
        self._gateways = gateways

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.reserve, self.authorize, self.capture, self.confirm, self.release, self.settle]

    @activity.defn(name=RESERVE)
    async def reserve(self, request: ReserveRequest) -> Reserved:
        """Hold goods and code, freeze the price, open the payment; or say why not. Repeated, it is the same attempt."""
        wanted, by = request.checkout, _actor(request.checkout)
        with _judged():
            try:
                async with self._database.tenant(wanted.tenant_id) as session:
                    held = await checkout.reserve(
                        session,
                        wanted.cart_id,
                        version=wanted.version,
                        run=request.run,
                        on_account=wanted.on_account,
                        by=by,
                    )
            except ConflictError as error:
                return await self._refused(wanted, error, by=by)
        if held.order_id is not None:
            return Reserved(status="ordered", attempt=held.attempt, order_id=held.order_id)
        status = "stale" if held.stale else "reserved"
        return Reserved(status=status, attempt=held.attempt, payment_id=held.payment_id)

    async def _refused(self, wanted: CheckoutInput, error: ConflictError, *, by: Actor) -> Reserved:
        code: RefusalCode = "out_of_stock" if isinstance(error, OutOfStockError) else _CODES.get(error.code, "internal")
        async with self._database.tenant(wanted.tenant_id) as session:
            short = await checkout.refuse(session, wanted.cart_id, code=code, error=error, by=by)
        return Reserved(status="refused", code=code, short=short)

    @activity.defn(name=AUTHORIZE)
    async def authorize(self, request: Attempt) -> Paid:
        """Have the money promised, or look whether the buyer has confirmed it."""
        with _judged():
            answer = await charging.authorize(
                self._database,
                self._gateways,
                request.checkout.tenant_id,
                _payment(request),
                method=request.checkout.method,
                by=_actor(request.checkout),
            )
        return Paid(status=answer.status, reason=answer.reason)

    @activity.defn(name=CAPTURE)
    async def capture(self, request: Attempt) -> Paid:
        """Take what was promised."""
        tenant_id, by = request.checkout.tenant_id, _actor(request.checkout)
        with _judged():
            answer = await charging.capture(self._database, self._gateways, tenant_id, _payment(request), by=by)
        return Paid(status=answer.status, reason=answer.reason)

    @activity.defn(name=CONFIRM)
    async def confirm(self, request: Attempt) -> Confirmed:
        """Make the order, or say why not. Repeated, it is the same order."""
        wanted = request.checkout
        with _judged():
            try:
                async with self._database.tenant(wanted.tenant_id) as session:
                    order_id = await checkout.confirm(
                        session,
                        wanted.cart_id,
                        attempt=request.attempt,
                        payment_id=request.payment_id,
                        by=_actor(wanted),
                    )
            except CreditLimitError:
                return Confirmed(code="credit_limit")
            except ConflictError:
                return Confirmed(code="expired")
        return Confirmed(order_id=order_id)

    @activity.defn(name=RELEASE_CHECKOUT)
    async def release(self, request: ReleaseRequest) -> Released:
        """Let go what is held, unless there is an order after all."""
        wanted = request.checkout
        with _judged():
            async with self._database.tenant(wanted.tenant_id) as session:
                freed = await checkout.release(
                    session,
                    wanted.cart_id,
                    attempt=request.attempt,
                    code=request.code,
                    message=ERRORS[request.code][1],
                    by=_actor(wanted),
                )
        return Released(order_id=freed.order_id, payment_id=freed.payment_id)

    @activity.defn(name=SETTLE)
    async def settle(self, request: SettleRequest) -> None:
        """Void a payment without an order, or give back what was taken."""
        with _judged():
            await undoing.undo(self._database, self._gateways, request.tenant_id, request.payment_id, by=SYSTEM)


@contextmanager
def _judged() -> Generator[None]:
    """Name what went wrong without a word of anybody's data, and say whether trying again is of use."""
    try:
        yield
    except GatewayError as error:
        raise ApplicationError("The gateway gave no answer.", type="GatewayError") from error
    except DeclinedError as error:
        raise ApplicationError("The gateway refused.", type=error.code, non_retryable=True) from error
    except (PlatformError, DBAPIError) as error:
        kind, useless = verdict(error)
        raise ApplicationError(kind, type=kind, non_retryable=useless) from error


def _actor(wanted: CheckoutInput) -> Actor:
    return Actor(wanted.actor, wanted.request_id)


def _payment(request: Attempt) -> UUID:
    if request.payment_id is None:
        raise ApplicationError("There is nothing to pay.", type="NoPayment", non_retryable=True)
    return request.payment_id
