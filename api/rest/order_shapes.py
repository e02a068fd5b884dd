"""What orders look like in requests and answers."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, JsonValue, StrictBool, StrictInt

from api.fields import Money, Strict
from api.rest.cart_shapes import CartAddress
from core.errors import InvalidError
from models import Fulfilment, Order, OrderLine
from services.commerce.fulfilments import NewParcel
from services.commerce.order_directory import Whole

OrderStatus = Literal["placed", "completed", "cancelled"]
PaymentStatus = Literal["unpaid", "paid", "on_account", "partly_refunded", "refunded"]
FulfilmentStatus = Literal["unfulfilled", "partly_fulfilled", "fulfilled"]


class OrderLineOut(Strict):
    """Some pieces of a variant that were bought."""

    id: UUID
    variant_id: UUID | None
    """Null where it was none of the catalogue, or is not any more."""
    sku: str
    name: str
    quantity: int
    unit: Money
    discount: Money
    """Its share of the order's discount."""
    tax: Money
    total: Money
    """What was paid for it, with tax."""
    fulfilled: int
    """How many pieces were sent."""
    released: int
    """How many will not be sent: they were given back before they were, or the order was cancelled."""
    returned: int
    """How many pieces refunds were about."""

    @classmethod
    def of(cls, line: OrderLine, currency: str) -> Self:
        """Return the answer for a line."""
        return cls(
            id=line.id,
            variant_id=line.variant_id,
            sku=line.sku,
            name=line.name,
            quantity=line.quantity,
            unit=Money.of(line.unit_minor, currency),
            discount=Money.of(line.discount_minor, currency),
            tax=Money.of(line.tax_minor, currency),
            total=Money.of(line.total_minor, currency),
            fulfilled=line.fulfilled,
            released=line.released,
            returned=line.returned,
        )


class PiecesIn(Strict):
    """Some pieces of a line."""

    line_id: UUID
    quantity: Annotated[StrictInt, Field(ge=1, le=1_000_000_000)]


class FulfilmentIn(Strict):
    """A parcel to send."""

    lines: Annotated[list[PiecesIn] | None, Field(min_length=1, max_length=500)] = None
    """All that is left of the order, unless given."""
    carrier: Annotated[str | None, Field(examples=["DHL"])] = None
    tracking_number: str | None = None
    tracking_url: str | None = None
    """Where its buyer can follow it."""

    def new(self) -> NewParcel:
        """Return the parcel.

        Raises:
            InvalidError: a line is named twice.
        """
        return NewParcel(
            lines=None if self.lines is None else pieces(self.lines),
            carrier=self.carrier,
            tracking_number=self.tracking_number,
            tracking_url=self.tracking_url,
        )


def pieces(lines: Sequence[PiecesIn]) -> dict[UUID, int]:
    """Return how many pieces of each line.

    Raises:
        InvalidError: a line is named twice.
    """
    wanted: dict[UUID, int] = {}
    for number, line in enumerate(lines):
        if line.line_id in wanted:
            raise InvalidError.of(f"lines.{number}.line_id", "is named twice")
        wanted[line.line_id] = line.quantity
    return wanted


class OrderPatch(Strict):
    """What to change of an order; what is left out stays, null clears."""

    version: Annotated[StrictInt | None, Field(ge=1)] = None
    """The version the change is meant for, as `If-Match`."""
    note: str | None = None
    purchase_order: str | None = None
    attributes: Annotated[dict[str, JsonValue], Field(default_factory=dict[str, JsonValue])]
    """Merged key by key; a null removes."""
    shipping_address: CartAddress | None = None
    """Until the first parcel was sent."""
    billing_address: CartAddress | None = None

    def fields(self) -> dict[str, Any]:
        """Return what is to be true of the order."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"version"}}
        for name, value in given.items():
            if isinstance(value, CartAddress):
                given[name] = value.written()
        return given


class CancelIn(Strict):
    """Why an order is called off."""

    reason: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    refund: StrictBool = True
    """Whether what was taken and is left is given back."""


class PiecesOut(Strict):
    """Some pieces of a line."""

    line_id: UUID
    quantity: int


class FulfilmentOut(Strict):
    """A parcel."""

    id: UUID
    order_id: UUID
    lines: list[PiecesOut]
    carrier: str | None
    tracking_number: str | None
    tracking_url: str | None
    delivered_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, parcel: Fulfilment) -> Self:
        """Return the answer for a parcel."""
        return cls(
            id=parcel.id,
            order_id=parcel.order_id,
            lines=[PiecesOut.model_validate(pieces) for pieces in parcel.lines],
            carrier=parcel.carrier,
            tracking_number=parcel.tracking_number,
            tracking_url=parcel.tracking_url,
            delivered_at=parcel.delivered_at,
            created_at=parcel.created_at,
        )


class OrderOut(Strict):
    """An order, as a list shows it."""

    id: UUID
    number: int
    """From 1 within the tenant; what people call it by."""
    status: OrderStatus
    payment_status: PaymentStatus
    fulfilment_status: FulfilmentStatus
    cart_id: UUID | None
    person_id: UUID | None
    """Null once the person was erased."""
    organization_id: UUID | None
    email: str | None
    currency: str
    subtotal: Money
    """The lines before discount."""
    discount: Money
    shipping: Money
    tax: Money
    tax_included: bool
    """Whether prices hold the tax, so that it adds nothing to the total."""
    total: Money
    captured: Money
    """What was paid; of an order on account, what was charged to the organization."""
    refunded: Money
    discount_code: str | None
    shipping_method: str | None
    shipping_address: dict[str, Any] | None
    billing_address: dict[str, Any] | None
    attributes: dict[str, Any]
    note: str | None
    purchase_order: str | None
    """The organization's own number for it."""
    due_on: date | None
    """When an order on account is to be paid."""
    placed_at: datetime
    cancelled_at: datetime | None
    cancel_reason: str | None
    version: int
    updated_at: datetime

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return the answer for an order."""
        return cls.model_validate(_shown(order))


class WholeOrderOut(OrderOut):
    """An order with its lines and parcels."""

    lines: list[OrderLineOut]
    fulfilments: list[FulfilmentOut]

    @classmethod
    def whole(cls, whole: Whole) -> Self:
        """Return the answer for an order with all that is its own."""
        lines = [OrderLineOut.of(line, whole.order.currency) for line in whole.lines]
        parcels = [FulfilmentOut.of(parcel) for parcel in whole.fulfilments]
        return cls.model_validate(_shown(whole.order) | {"lines": lines, "fulfilments": parcels})


_MONEY = ("subtotal", "discount", "shipping", "tax", "total", "captured", "refunded")


def _shown(order: Order) -> dict[str, Any]:
    own = {name: getattr(order, name) for name in OrderOut.model_fields if name not in _MONEY}
    return own | {name: Money.of(getattr(order, f"{name}_minor"), order.currency) for name in _MONEY}
