"""Buying a cart: the answer is what became of it."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, cast
from uuid import UUID

from fastapi import Request, Response, status
from pydantic import Field, StrictBool, StrictInt
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, TemporalDep, requires
from api.fields import Money, Strict
from api.rest.order_shapes import WholeOrderOut
from api.routing import Router
from contracts.checkout import OUTCOME, WORKFLOW, CheckoutInput, Outcome, RefusalCode, workflow_id
from core import temporal
from core.actor import Actor
from core.database import Database
from core.errors import FieldProblem, InvalidError, PlatformError, UnavailableError
from core.temporal import COMMERCE_QUEUE
from services.commerce import carts, checkout, order_directory
from services.commerce.checkout import Wanted
from services.commerce.checkout_errors import ERRORS

router = Router(prefix="/carts", tags=["carts"])

PATIENCE: Final = timedelta(seconds=10)
"""How long the outcome is waited for."""
ATTEMPTS: Final = 3
"""How often it is asked again where the workflow ended just when it was asked."""


class PaymentIn(Strict):
    """How it is paid."""

    method: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", examples=["approve"])]
    """In the gateway's words: the token that the buyer's browser was given. No number of a card belongs here."""


class CheckoutIn(Strict):
    """What a buyer says at the checkout; of the cart's own fields, those that are given are changed first."""

    version: StrictInt | None = None
    """Of the cart as it was shown; another one is refused."""
    total: Money | None = None
    """What the cart was shown to cost: where a price, a tax or a code has changed since, it is refused."""
    email: str | None = None
    person_id: UUID | None = None
    shipping_method: str | None = None
    shipping_address: dict[str, str | None] | None = None
    billing_address: dict[str, str | None] | None = None
    payment: PaymentIn | None = None
    on_account: StrictBool = False
    """The cart's organization pays on its terms."""
    purchase_order: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The organization's own number for it."""
    note: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None

    def wanted(self) -> Wanted:
        """Return it as the service takes it.

        Raises:
            InvalidError: it is to be paid in two ways, or the total is none in its currency.
        """
        if self.on_account and self.payment is not None:
            raise InvalidError.of("on_account", "and payment exclude each other")
        names = {"email", "person_id", "shipping_method", "shipping_address", "billing_address"}
        return Wanted(
            version=self.version,
            total=None if self.total is None else (self.total.minor("total"), self.total.currency),
            fields={name: getattr(self, name) for name in names & self.model_fields_set},
            method=None if self.payment is None else self.payment.method,
            on_account=self.on_account,
            purchase_order=self.purchase_order,
            note=self.note,
        )


class PendingOut(Strict):
    """A checkout that goes on."""

    status: Literal["action_required", "processing"]
    """`action_required`: the buyer confirms the payment with their bank; ask again then. `processing`: look at the
    cart later, or ask again."""
    client_secret: str | None = None
    """What the buyer's browser confirms the payment with."""


@router.post(
    "/{cart_id}/checkout",
    operation_id="carts.checkout",
    status_code=status.HTTP_201_CREATED,
    dependencies=[requires("carts:write")],
    responses={200: {"model": WholeOrderOut}, 202: {"model": PendingOut}, 402: {}},
)
async def check_out(  # noqa: PLR0913, PLR0917 - what a route asks for
    cart_id: UUID,
    body: CheckoutIn,
    request: Request,
    response: Response,
    principal: PrincipalDep,
    database: DatabaseDep,
    client: TemporalDep,
    actor: ActorDep,
) -> WholeOrderOut | PendingOut:
    """Make an order of a cart (201); asked again it is the same order (200).

    202 where the buyer has to confirm the payment, or where it takes longer than ten seconds. 402 `payment_declined`;
    409 `version`, `empty`, `not_for_sale`, `out_of_stock`, `shipping`, `discount`, `credit_limit`, `payment_expired`:
    the cart is open again, and nothing was taken. 503 `payment_unavailable` where the gateway gives no answer.
    """
    asked = _Asked(cart_id, body.wanted(), principal.tenant_id, actor)
    for _ in range(ATTEMPTS):
        with suppress(_OverError):
            return await _answer(asked, request, response, database, client)
    raise UnavailableError("The checkout ended while it was asked about; try again.")


@dataclass(frozen=True, slots=True)
class _Asked:
    cart_id: UUID
    wanted: Wanted
    tenant_id: UUID
    actor: Actor


async def _answer(
    asked: _Asked, request: Request, response: Response, database: Database, client: Client
) -> WholeOrderOut | PendingOut:
    # A transaction of its own, ended before the workflow is asked: that wants the same cart.
    async with database.tenant(asked.tenant_id) as session:
        cart = await checkout.prepare(session, asked.cart_id, asked.wanted, by=asked.actor)
        if cart.order_id is not None:
            response.status_code = status.HTTP_200_OK
            return WholeOrderOut.whole(await order_directory.whole(session, cart.order_id))
    outcome = await _outcome(
        client,
        CheckoutInput(
            tenant_id=asked.tenant_id,
            cart_id=asked.cart_id,
            version=cart.version,
            method=asked.wanted.method,
            on_account=asked.wanted.on_account,
            actor=asked.actor.name,
            request_id=asked.actor.request_id,
        ),
    )
    if outcome is not None and outcome.order_id is not None:
        async with database.tenant(asked.tenant_id) as session:
            return WholeOrderOut.whole(await order_directory.whole(session, outcome.order_id))
    if outcome is not None and outcome.status == "refused":
        raise await _refusal(database, asked, outcome)
    response.status_code = status.HTTP_202_ACCEPTED
    request.state.unkept = True  # asked again with the same Idempotency-Key it is looked at again
    if outcome is None:
        return PendingOut(status="processing")
    async with database.tenant(asked.tenant_id) as session:
        secret = checkout.client_secret(await carts.get(session, asked.cart_id))
    return PendingOut(status="action_required", client_secret=secret)


class _OverError(Exception):
    """The workflow ended before it could answer."""


async def _outcome(client: Client, asked: CheckoutInput) -> Outcome | None:
    """Start the cart's workflow, or find it at work; return its outcome, None where that takes too long."""
    start: WithStartWorkflowOperation[Any, Outcome] = WithStartWorkflowOperation(
        WORKFLOW,
        asked,
        id=workflow_id(asked.tenant_id, asked.cart_id),
        task_queue=COMMERCE_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(temporal.TENANT_ID, str(asked.tenant_id)),
                SearchAttributePair(temporal.DOMAIN, "commerce"),
            ]
        ),
    )
    try:
        answer = await client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
            OUTCOME, start_workflow_operation=start, result_type=Outcome, rpc_timeout=PATIENCE
        )
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        return None
    except WorkflowUpdateFailedError:
        return Outcome(status="refused", code="cancelled")  # somebody terminated it
    except RPCError as error:
        if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.ABORTED}:
            raise _OverError from error
        raise UnavailableError("The workflow engine is not reachable; try again in a moment.") from error
    return cast("Outcome", answer)


async def _refusal(database: Database, asked: _Asked, outcome: Outcome) -> PlatformError:
    """Return the error that says why there is no order."""
    code: RefusalCode = outcome.code or "internal"
    kind, detail = ERRORS[code]
    problems = [FieldProblem("lines", f"of {sku} only {left} can be had") for sku, left in outcome.short.items()]
    extra: dict[str, Any] = {"short": outcome.short} if outcome.short else {}
    if code == "payment_declined":
        extra["decline_code"] = reason = outcome.reason or "declined"
        problems = [FieldProblem("payment", f"was declined: {reason}")]
    if code == "version":
        async with database.tenant(asked.tenant_id) as session:
            extra["version"] = version = (await carts.get(session, asked.cart_id)).version
        problems = [FieldProblem("version", f"is {version} by now")]
    return kind(detail, errors=problems, extra=extra)
