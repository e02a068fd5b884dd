"""Money given back of orders."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import status
from pydantic import Field, StrictBool, StrictInt

from api.dependencies import ActorDep, ClaimDep, DatabaseDep, GatewaysDep, PrincipalDep, SessionDep, requires
from api.fields import Money, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_entry, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from models import Order, Refund
from services.commerce import orders, refunding, refunds
from services.commerce.refunds import ReturnedPieces

router = Router(prefix="/orders", tags=["orders"])

READ = [requires("orders:read")]
WRITE = [requires("orders:write")]

RefundStatus = Literal["pending", "succeeded", "failed"]


class RefundedPiecesIn(Strict):
    """Some pieces of a line that come back."""

    line_id: UUID
    quantity: Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]
    restock: StrictBool = False
    """Whether they lie on a shelf again; only what was sent can."""


class RefundIn(Strict):
    """What to give back: an amount, what was paid for some pieces, or, with neither, all that is left."""

    amount: Money | None = None
    lines: Annotated[list[RefundedPiecesIn], Field(max_length=500, default_factory=list)]
    """With `amount` too, that is given back for them."""
    reason: Annotated[str, Field(min_length=1, max_length=refunds.MAX_REASON)] | None = None

    def minor(self, order: Order) -> int | None:
        """Return the amount in smallest units.

        Raises:
            InvalidError: it is in another currency than the order, or finer than that has.
        """
        if self.amount is None:
            return None
        if self.amount.currency != order.currency:
            raise InvalidError.of("amount.currency", f"must be the order's currency, {order.currency}")
        return self.amount.minor("amount")


class RefundedPiecesOut(Strict):
    """Some pieces of a line."""

    line_id: UUID
    quantity: int
    restock: bool


class FailureOut(Strict):
    """Why money did not move."""

    code: str
    message: str


class RefundOut(Strict):
    """Money given back."""

    id: UUID
    order_id: UUID
    payment_id: UUID | None
    """Null of an order on account: the organization's ledger is credited."""
    amount: Money
    status: RefundStatus
    """`pending`: the gateway has not said yet; it is asked again every few minutes."""
    lines: list[RefundedPiecesOut]
    reason: str | None
    failure: FailureOut | None
    """Of one that `succeeded`: the gateway took it back later, and it is to be paid in another way."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, refund: Refund) -> Self:
        """Return the answer for a refund."""
        shown = {name: getattr(refund, name) for name in cls.model_fields if name != "amount"}
        return cls.model_validate(shown | {"amount": Money.of(refund.amount_minor, refund.currency)})


@router.post("/{order_id}/refunds", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    order_id: UUID,
    body: RefundIn,
    principal: PrincipalDep,
    actor: ActorDep,
    database: DatabaseDep,
    gateways: GatewaysDep,
    claim: ClaimDep,
) -> RefundOut:
    """Give money back; never more than was taken. Answers once the gateway did, or `pending` where it does not."""
    # Committed before the gateway is asked, and named by the claim: sent again, it is the same refund.
    async with database.tenant(principal.tenant_id) as session:
        refund = await refunds.request(
            session,
            order_id,
            amount_minor=body.minor(await orders.get(session, order_id)),
            lines=[ReturnedPieces(one.line_id, one.quantity, one.restock) for one in body.lines],
            reason=body.reason,
            refund_id=claim,
            by=actor,
        )
    if refund.status == "pending":
        refund = await refunding.ask(database, gateways, principal.tenant_id, refund.id, by=actor)
    return RefundOut.of(refund)


@router.get("/{order_id}/refunds", dependencies=READ)
async def find(
    order_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[RefundOut]:
    """List what was given back of an order, newest first."""
    await orders.get(session, order_id)
    before = None if cursor is None else decode_entry(cursor)
    found = await refunds.page(session, order_id, limit=limit + 1, before=before)
    return Page(
        items=[RefundOut.of(refund) for refund in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else None,
    )
