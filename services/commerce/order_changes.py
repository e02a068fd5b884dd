"""What may be changed of an order afterwards: what people noted of it, and until it is sent, where to."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from contracts.events import ORDER_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import Order
from services.commerce import cart_fields, order_events, orders
from services.events.publish import publish
from services.identity import attributes, normalize

MAX_NOTE: Final = 2_000
ADDRESSES: Final = ("shipping_address", "billing_address")
FIELDS: Final = ("note", "purchase_order", "attributes", *ADDRESSES)


async def update(
    session: TenantSession, order_id: UUID, fields: Mapping[str, Any], *, by: Actor, version: int | None = None
) -> Order:
    """Change some of `FIELDS`: None clears, attributes are merged key by key; return the order.

    Raises:
        NotFoundError: no such order in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: it is not in `version` any more, or is on its way already and cannot go elsewhere.
    """
    order = await orders.locked(session, order_id)
    if version is not None and version != order.version:
        raise ConflictError(
            f"The order is in version {order.version} by now.",
            errors=[FieldProblem("version", f"is not {order.version}, the current one")],
            extra={"version": order.version},
        )
    changed = {name: value for name, value in _checked(order, fields).items() if value != getattr(order, name)}
    if not changed:
        return order
    if "shipping_address" in changed and order.fulfilment_status != "unfulfilled":
        raise ConflictError(
            "The order is on its way.",
            errors=[FieldProblem("shipping_address", "cannot change once a parcel was sent")],
        )
    for name, value in changed.items():
        setattr(order, name, value)
    orders.touch(order)
    await session.flush()
    await session.refresh(order)
    # names alone: the values may tell who it is
    await orders.record(session, order, ORDER_UPDATED, {"fields": (None, sorted(changed))}, by)
    await publish(session, [order_events.event(ORDER_UPDATED, order, fields=sorted(changed))])
    return order


def _checked(order: Order, fields: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "attributes":
            attributes.check(value)
            checked[name] = attributes.merged(order.attributes, value)
        elif name == "note":
            checked[name] = note(value)
        elif name == "purchase_order":
            checked[name] = None if value is None else normalize.line(value, name)
        else:
            checked[name] = None if value is None else cart_fields.address(value, name)
    return checked


def note(text: str | None) -> str | None:
    """Return a note in the spelling the store has.

    Raises:
        InvalidError: it is too long.
    """
    if text is not None and len(text) > MAX_NOTE:
        raise InvalidError.of("note", f"must have at most {MAX_NOTE} characters")
    return (text or "").strip() or None
