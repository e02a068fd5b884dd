"""Types of events about carts, checkouts, orders and payments; an outside shop sends the first three, too."""

from collections.abc import Mapping
from typing import Any, Final

from contracts import events
from contracts.catalogue.shapes import (
    AMOUNT,
    CURRENCY,
    FIELDS,
    FLAG,
    ITEMS,
    NUMBER,
    TEXT,
    URL,
    UUID,
    EventType,
    Schema,
    nullable,
    obj,
)

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"
_THREE: Final = "01a0c1f2-0000-7000-8000-000000000003"

_GIVEN: Final[Schema] = {
    "type": ["string", "number"],
    "description": "In units of the currency; as text, it is exact.",
}
_KEY: Final[Schema] = {"type": ["string", "integer", "null"], "description": "Your id of the order."}
_OF_SHOPS: Final = obj({"total": _GIVEN, "currency": CURRENCY}, {"order_id": _KEY})
"""What is asked of the events of an outside shop."""
_CANCELLED_OF_SHOPS: Final[Schema] = {
    "type": "object",
    "if": {"required": ["unpaid"]},
    "then": obj({"unpaid": _GIVEN, "currency": CURRENCY}, {"order_id": _KEY}),
}

_BUYERS: Final = ("person", "order")
"""The order, where it has no person any more."""
_CARTS: Final = ("person", "cart")
"""The cart, while it is not known whose it is."""
_ORDER: Final[Mapping[str, Schema]] = {"order_id": UUID, "number": NUMBER, "currency": CURRENCY}
_ORDER_MORE: Final[Mapping[str, Schema]] = {"cart_id": UUID, "organization_id": UUID}
_SHOWN: Final = {"order_id": _ONE, "number": 1001, "currency": "EUR", "cart_id": _TWO}
_PIECES: Final = [{"sku": "SHOE-42", "name": "Shoe", "quantity": 1, "unit": "100.00"}]
_PARCEL: Final[Mapping[str, Schema]] = {"carrier": TEXT, "tracking_number": TEXT, "tracking_url": URL}
_SENT: Final = {"fulfilment_id": _THREE, "carrier": "DHL", "tracking_number": "00340434161094042557"}
_REFUND: Final = {"refund_id": _THREE, "total": "100.00"}


def _order(
    name: str,
    description: str,
    required: Mapping[str, Schema] | None = None,
    optional: Mapping[str, Schema] | None = None,
    *,
    clients: Schema | None = None,
    example: Mapping[str, Any] | None = None,
) -> EventType:
    return EventType(
        type=name,
        description=description,
        domain="commerce",
        subjects=_BUYERS,
        platform=obj({**_ORDER, **(required or {})}, {**_ORDER_MORE, **(optional or {})}),
        clients={"type": "object"} if clients is None else clients,
        example=_SHOWN | dict(example or {}),
    )


def _payment(name: str, description: str) -> EventType:
    return EventType(
        type=name,
        description=description,
        domain="commerce",
        subjects=("payment",),
        platform=obj(
            {
                "cart_id": UUID,
                "attempt": NUMBER,
                "order_id": nullable(UUID),
                "gateway": TEXT,
                "amount": AMOUNT,
                "currency": CURRENCY,
            },
            {"code": TEXT},
        ),
        example={
            "cart_id": _TWO,
            "attempt": 1,
            "order_id": None,
            "gateway": "stripe",
            "amount": "100.00",
            "currency": "EUR",
        },
    )


TYPES: Final = (
    EventType(
        type=events.CART_UPDATED,
        description="What is in a cart, or what it costs, is something else now.",
        domain="commerce",
        subjects=_CARTS,
        platform=obj({"cart_id": UUID, "version": NUMBER, "currency": CURRENCY, "total": AMOUNT, "items": ITEMS}),
        example={"cart_id": _TWO, "version": 3, "currency": "EUR", "total": "100.00", "items": _PIECES},
    ),
    EventType(
        type=events.CART_JOINED,
        description="What was in a cart lies in another now.",
        domain="commerce",
        subjects=_CARTS,
        platform=obj({"cart_id": UUID, "joined_into": UUID}),
        example={"cart_id": _ONE, "joined_into": _TWO},
    ),
    EventType(
        type=events.CHECKOUT_STARTED,
        description="Somebody went to pay for a cart.",
        domain="commerce",
        subjects=_CARTS,
        platform=obj({"cart_id": UUID, "attempt": NUMBER, "total": AMOUNT, "currency": CURRENCY}),
        example={"cart_id": _TWO, "attempt": 1, "total": "100.00", "currency": "EUR"},
    ),
    EventType(
        type=events.CHECKOUT_FAILED,
        description="A checkout came to nothing; `code` says why, and the cart is open again.",
        domain="commerce",
        subjects=_CARTS,
        platform=obj({"cart_id": UUID, "attempt": NUMBER, "code": TEXT}),
        example={"cart_id": _TWO, "attempt": 1, "code": "declined"},
    ),
    _order(
        events.ORDER_PLACED,
        "Somebody bought something, here or at an outside shop. Makes a customer of them.",
        {"total": AMOUNT, "payment": TEXT, "items": ITEMS},
        clients=_OF_SHOPS,
        example={"total": "100.00", "payment": "paid", "items": _PIECES},
    ),
    _order(
        events.ORDER_UPDATED,
        "Fields of an order are others now.",
        {"fields": FIELDS},
        example={"fields": ["shipping_address"]},
    ),
    _order(
        events.ORDER_FULFILLED,
        "A parcel of an order was sent; `whole` where nothing is left to be sent.",
        {"fulfilment_id": UUID, "items": ITEMS, "whole": FLAG},
        _PARCEL,
        example=_SENT | {"items": _PIECES, "whole": True},
    ),
    _order(
        events.ORDER_DELIVERED,
        "A parcel of an order arrived.",
        {"fulfilment_id": UUID},
        _PARCEL,
        example=_SENT,
    ),
    _order(events.ORDER_COMPLETED, "Nothing of an order is left to be sent."),
    _order(
        events.ORDER_CANCELLED,
        "Nothing of an order will be sent; `unpaid` is what of it will never be paid.",
        {"total": AMOUNT, "unpaid": AMOUNT},
        clients=_CANCELLED_OF_SHOPS,
        example={"total": "100.00", "unpaid": "100.00"},
    ),
    _order(
        events.ORDER_REFUNDED,
        "Something of what an order cost was given back; `total` is how much.",
        {"refund_id": UUID, "total": AMOUNT, "items": ITEMS},
        clients=_OF_SHOPS,
        example=_REFUND | {"items": _PIECES},
    ),
    _order(
        events.ORDER_REFUND_FAILED,
        "The gateway will not give back what it was asked to.",
        {"refund_id": UUID, "total": AMOUNT, "code": TEXT},
        example=_REFUND | {"code": "charge_disputed"},
    ),
    EventType(
        type=events.PERSON_ORDERS_CHANGED,
        description="What is known of a person's orders is something else now; written once it was counted.",
        domain="commerce",
        platform=obj({}),
    ),
    _payment(events.PAYMENT_AUTHORIZED, "The gateway holds the money."),
    _payment(events.PAYMENT_CAPTURED, "The money was taken."),
    _payment(events.PAYMENT_VOIDED, "The gateway let go of what it held."),
    _payment(events.PAYMENT_FAILED, "The gateway refused; `code` says why."),
    _payment(events.PAYMENT_REFUNDED, "What was taken for a checkout that made no order was given back."),
)
