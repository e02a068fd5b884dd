"""Types of events about products, their prices and stock."""

from collections.abc import Mapping
from typing import Any, Final

from contracts import events
from contracts.catalogue.shapes import (
    AMOUNT,
    CURRENCY,
    FIELDS,
    NUMBER,
    TEXT,
    UUID,
    EventType,
    Schema,
    listed,
    nullable,
    obj,
    one_of,
)

_ONE: Final = "01a0c1f2-0000-7000-8000-000000000001"
_TWO: Final = "01a0c1f2-0000-7000-8000-000000000002"

_WATCHED: Final = ("variant", "person")
"""Once about the variant, and once about each person who watches it."""
_PRICE: Final[Mapping[str, Schema]] = {"currency": CURRENCY, "price": nullable(AMOUNT), "was": nullable(AMOUNT)}
_CHEAPER: Final = {"currency": "EUR", "price": "80.00", "was": "100.00"}
_VARIANT: Final[Mapping[str, Schema]] = {
    "variant_id": UUID,
    "sku": TEXT,
    "product_id": UUID,
    "product": TEXT,
    "name": TEXT,
}
_SHOE: Final = {"variant_id": _ONE, "sku": "SHOE-42", "product_id": _TWO, "product": "shoe", "name": "Shoe 42"}


def _of(
    name: str,
    subject: str,
    description: str,
    required: Mapping[str, Schema],
    example: Mapping[str, Any],
    optional: Mapping[str, Schema] | None = None,
) -> EventType:
    return EventType(
        type=name,
        description=description,
        domain="commerce",
        subjects=(subject,),
        platform=obj(required, optional),
        example=example,
    )


def _keyed(subject: str, names: Mapping[str, str]) -> tuple[EventType, ...]:
    return tuple(
        _of(name, subject, description, {"key": TEXT, "fields": FIELDS}, {"key": "main", "fields": ["name"]})
        for name, description in names.items()
    )


TYPES: Final = (
    _of(
        events.PRODUCT_CREATED,
        "product",
        "A product is there now.",
        {"key": TEXT, "status": TEXT},
        {"key": "shoe", "status": "active"},
    ),
    _of(
        events.PRODUCT_UPDATED,
        "product",
        "A product is another now.",
        {"key": TEXT, "fields": FIELDS},
        {"key": "shoe", "fields": ["name"]},
    ),
    _of(
        events.PRODUCT_ARCHIVED,
        "product",
        "A product is sold no more.",
        {"key": TEXT, "fields": FIELDS},
        {"key": "shoe", "fields": ["status"]},
    ),
    _of(events.PRODUCT_DELETED, "product", "A product was deleted.", {"key": TEXT}, {"key": "shoe"}),
    _of(
        events.VARIANT_CREATED,
        "variant",
        "A variant of a product is there now.",
        {"product_id": UUID, "sku": TEXT},
        {"product_id": _TWO, "sku": "SHOE-42"},
    ),
    _of(
        events.VARIANT_UPDATED,
        "variant",
        "A variant is another now.",
        {"product_id": UUID, "sku": TEXT, "fields": FIELDS},
        {"product_id": _TWO, "sku": "SHOE-42", "fields": ["weight_grams"]},
    ),
    _of(
        events.VARIANT_DELETED,
        "variant",
        "A variant was deleted.",
        {"product_id": UUID, "sku": TEXT},
        {"product_id": _TWO, "sku": "SHOE-42"},
    ),
    _of(
        events.PRICE_CHANGED,
        "variant",
        "A variant costs something else in some currency, or can be had in it no more.",
        {"prices": listed(obj(_PRICE))},
        {"prices": [_CHEAPER]},
    ),
    EventType(
        type=events.PRICE_DROPPED,
        description="A variant costs less; also about each person who watches its price.",
        domain="commerce",
        subjects=_WATCHED,
        platform=obj({**_VARIANT, **_PRICE, "prices": listed(obj(_PRICE))}),
        example=_SHOE | _CHEAPER | {"prices": [_CHEAPER]},
    ),
    EventType(
        type=events.STOCK_BACK,
        description="A variant can be had again; also about each person who waited for it.",
        domain="commerce",
        subjects=_WATCHED,
        platform=obj(_VARIANT),
        example=_SHOE,
    ),
    _of(
        events.STOCK_BOOKED,
        "variant",
        "Pieces of a variant came, went or were counted.",
        {
            "movement_id": UUID,
            "location_id": UUID,
            "kind": one_of("receive", "adjust", "ship", "return"),
            "quantity": NUMBER,
            "on_hand": NUMBER,
        },
        {"movement_id": _ONE, "location_id": _TWO, "kind": "receive", "quantity": 10, "on_hand": 12},
    ),
    *_keyed(
        "category",
        {
            events.CATEGORY_CREATED: "A category is there now.",
            events.CATEGORY_UPDATED: "A category is another now.",
            events.CATEGORY_DELETED: "A category was deleted.",
        },
    ),
    *_keyed(
        "stock_location",
        {
            events.LOCATION_CREATED: "A place that goods are kept at is there now.",
            events.LOCATION_UPDATED: "A place that goods are kept at is another now.",
            events.LOCATION_DELETED: "A place that goods were kept at was deleted.",
        },
    ),
)
