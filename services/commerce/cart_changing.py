"""How a cart is changed: under its lock, while it is open, and told as `cart.updated` with its next version."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import func

from contracts.events import CART_UPDATED
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, NotFoundError
from models import Cart
from services.commerce import cart_pricing
from services.commerce.cart_pricing import CartView
from services.events.publish import NewEvent, publish
from services.shared import activity


@dataclass(slots=True)
class Change:
    """What is made of a cart that is held."""

    cart: Cart
    log: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    """Each field with what it was and what it is."""


async def locked(session: TenantSession, cart_id: UUID, *, version: int | None = None) -> Cart:
    """Return a cart, held until the transaction ends, whatever its status.

    Raises:
        NotFoundError: no such cart in this tenant.
        ConflictError: it is not in `version` any more.
    """
    cart = await session.get(Cart, (session.tenant_id, cart_id), with_for_update=True, populate_existing=True)
    if cart is None:
        raise NotFoundError("No such cart.")
    if version is not None and cart.version != version:
        raise ConflictError(
            f"The cart was changed meanwhile: it is in version {cart.version}.",
            errors=[FieldProblem("version", f"is {cart.version} by now")],
            extra={"version": cart.version},
        )
    return cart


async def opened(session: TenantSession, cart_id: UUID, *, version: int | None = None) -> Cart:
    """Return an open cart, held until the transaction ends.

    Raises:
        NotFoundError: no such cart in this tenant.
        ConflictError: it is not open, or not in `version` any more.
    """
    cart = await locked(session, cart_id, version=version)
    if cart.status != "open":
        raise ConflictError(
            f"Only an open cart can be changed; this one is {cart.status}.",
            errors=[FieldProblem("status", f"is {cart.status}")],
            extra={"cart_status": cart.status},
        )
    return cart


async def told(session: TenantSession, made: Change, *, by: Actor) -> CartView:
    """Raise the version of a changed cart, log the change and tell of it; return the cart as it is now."""
    made.cart.version += 1
    made.cart.updated_at = func.now()
    await session.flush()
    await session.refresh(made.cart)
    return await logged(session, made, CART_UPDATED, by=by)


async def logged(session: TenantSession, made: Change, verb: str, *, by: Actor, silent: bool = False) -> CartView:
    """Log a change and, unless `silent`, tell of it; return the cart as it is now."""
    found = await cart_pricing.view(session, made.cart)
    await activity.record(session, by=by, subject_type="cart", subject_id=made.cart.id, type=verb, changes=made.log)
    if not silent:
        await publish(session, [about(CART_UPDATED, made.cart, properties_of(found))])
    return found


def about(kind: str, cart: Cart, properties: dict[str, Any], *, person_id: UUID | None = None) -> NewEvent:
    """Return an event about the person a cart is of, or about the cart while that is not known."""
    person = cart.person_id or person_id
    if person is None:
        return NewEvent(kind, cart.id, subject_type="cart", properties=properties)
    return NewEvent(kind, person, properties=properties)


def properties_of(found: CartView) -> dict[str, Any]:
    """Return what `cart.updated` says; lines that cannot be sold are not in it."""
    cart, priced = found.cart, found.priced

    def money(minor: int) -> str:
        return str(currency.from_minor(minor, cart.currency))

    return {
        "cart_id": str(cart.id),
        "version": cart.version,
        "currency": cart.currency,
        "total": money(priced.total_minor),
        "items": [
            {"sku": line.sku, "name": line.name, "quantity": line.quantity, "unit": money(line.unit_minor)}
            for line in priced.lines
        ],
    }
