"""What an order's events say: about the person, or about the order where it has none any more."""

from collections.abc import Iterable
from typing import Any

from core import currency
from models import Order, OrderLine
from services.events.publish import NewEvent


def event(event_type: str, order: Order, **properties: Any) -> NewEvent:  # noqa: ANN401 - JSON
    """Return an event of the order; it names the order, and its cart, so that what waits for that very cart goes on."""
    told: dict[str, Any] = {"order_id": str(order.id), "number": order.number, "currency": order.currency}
    for name in ("cart_id", "organization_id"):
        value = getattr(order, name)
        if value is not None:
            told[name] = str(value)
    if order.person_id is None:
        return NewEvent(event_type, order.id, subject_type="order", properties=told | properties)
    return NewEvent(event_type, order.person_id, properties=told | properties)


def items(order: Order, lines: Iterable[tuple[OrderLine, int]]) -> list[dict[str, Any]]:
    """Return what an event says of some pieces of lines."""
    return [
        {
            "sku": line.sku,
            "name": line.name,
            "quantity": quantity,
            "unit": shown(line.unit_minor, order.currency),
        }
        for line, quantity in lines
    ]


def shown(minor: int, code: str) -> str:
    """Return an amount as events write it."""
    return str(currency.from_minor(minor, code))
