"""Payments, and the notices that gateways post about them."""

import time
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Path, Request
from temporalio.service import RPCError, RPCStatusCode

from api.dependencies import DatabaseDep, GatewaysDep, ResourcesDep, SessionDep, requires
from api.fields import Money, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.resources import Resources
from api.rest.refunds import FailureOut
from api.routing import Router
from api.tracking.routes import TokensDep
from contracts.checkout import PAYMENT_CHANGED, workflow_id
from core.actor import Actor
from core.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from core.tokens import BadTokenError
from integrations.payments.notices import (
    SIGNATURE,
    ForgedNoticeError,
    MalformedNoticeError,
    read,
    verify,
)
from integrations.payments.port import PaymentError
from models import Payment
from services.commerce import notices, payment_accounts, payments
from services.commerce.payment_accounts import GatewayName

router = Router(prefix="/payments", tags=["payments"])
told = APIRouter(prefix="/v1/payments/notices", tags=["payments"])
"""Needs no key: the address names the account, and the account's secret signs the body."""

READ = [requires("payments:read")]

PaymentState = Literal["pending", "authorized", "captured", "voided", "failed"]


class PaymentOut(Strict):
    """Money asked of somebody for one checkout of a cart."""

    id: UUID
    cart_id: UUID
    attempt: int
    """Of the cart's checkouts."""
    order_id: UUID | None
    account_id: UUID | None
    """Null of the local gateway without an account."""
    gateway: GatewayName
    gateway_id: str | None
    """What the gateway calls it."""
    status: PaymentState
    amount: Money
    captured: Money
    refunded: Money
    failure: FailureOut | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, payment: Payment) -> Self:
        """Return the answer for a payment."""
        money = ("amount", "captured", "refunded")
        own = {name: getattr(payment, name) for name in cls.model_fields if name not in money}
        amounts = {name: Money.of(getattr(payment, f"{name}_minor"), payment.currency) for name in money}
        return cls.model_validate(own | amounts)


class NoticeTaken(Strict):
    """What became of a notice."""

    effect: str
    """What a payment or refund is now, or `nothing`: told before, late, or about something else."""


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    order_id: UUID | None = None,
    cart_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[PaymentOut]:
    """List payments, newest first; of an order or a cart where named."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await payments.page(session, order_id=order_id, cart_id=cart_id, limit=limit + 1, before=before)
    return Page(
        items=[PaymentOut.of(payment) for payment in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{payment_id}", dependencies=READ)
async def get(payment_id: UUID, session: SessionDep) -> PaymentOut:
    """Return a payment."""
    return PaymentOut.of(await payments.get(session, payment_id))


@told.post(
    "/{token}",
    operation_id="payments.notice",
    responses={403: {}, 409: {}},
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def take_notice(
    token: Annotated[str, Path(max_length=200)],
    request: Request,
    tokens: TokensDep,
    resources: ResourcesDep,
    database: DatabaseDep,
    gateways: GatewaysDep,
) -> NoticeTaken:
    """Take what a gateway reports, signed in `Stripe-Signature`; the same again, or late, changes nothing."""
    try:
        ref = tokens.read_account(token)
    except BadTokenError as error:
        raise NotFoundError("No such account.") from error
    async with database.tenant(ref.tenant_id) as session:
        account = await payment_accounts.get(session, ref.account_id)
        secret = payment_accounts.secret(account, seal=gateways.seal).webhook_secret
    if secret is None:
        raise ForbiddenError("Without the account's webhook_secret nothing shows who wrote this.")
    body = await request.body()
    try:
        verify(body, request.headers.get(SIGNATURE, ""), secret, now=time.time())
        notice = read(body)
    except ForgedNoticeError as error:
        raise ForbiddenError(str(error)) from error
    except MalformedNoticeError as error:
        raise InvalidError.of("body", str(error)) from error
    by = Actor(f"gateway:{account.gateway}", request.state.request_id)
    try:
        taken = await notices.take(database, gateways, ref.tenant_id, ref.account_id, notice, by=by)
    except PaymentError as error:
        raise UnavailableError("What the gateway holds could not be let go; tell us again.") from error
    if taken.cart_id is not None:
        await _signal(resources, ref.tenant_id, taken.cart_id)
    return NoticeTaken(effect=taken.effect)


async def _signal(resources: Resources, tenant_id: UUID, cart_id: UUID) -> None:
    """Tell the cart's checkout, where one runs, that its payment may be another now; told again, it looks again."""
    if resources.temporal.client is None:
        raise UnavailableError("The workflow engine is not reachable yet; tell us again.")
    checkout = resources.temporal.client.get_workflow_handle(workflow_id(tenant_id, cart_id))
    try:
        await checkout.signal(PAYMENT_CHANGED)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise UnavailableError("The workflow engine does not answer; tell us again.") from error
