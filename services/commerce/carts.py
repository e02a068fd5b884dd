"""Carts: made, filled, changed and joined. What they cost is `services.commerce.cart_pricing`'s.

A person that a change names is held before the cart, an organization after it.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from contracts.events import CART_CREATED, CART_JOINED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Cart, CartLine
from services.commerce import cart_fields, cart_lines
from services.commerce.cart_changing import Change, about, locked, logged, opened, told
from services.commerce.cart_lines import Wanted
from services.commerce.cart_pricing import CartView, priced, view, views
from services.events.publish import publish
from services.identity import aliases
from services.shared import activity

__all__ = ["change", "create", "get", "join", "locked", "page", "priced", "view", "views"]


async def get(session: TenantSession, cart_id: UUID) -> Cart:
    """Return a cart as it is now.

    Raises:
        NotFoundError: no such cart in this tenant.
    """
    cart = await session.get(Cart, (session.tenant_id, cart_id), populate_existing=True)
    if cart is None:
        raise NotFoundError("No such cart.")
    return cart


async def create(
    session: TenantSession, fields: Mapping[str, Any], lines: Sequence[Wanted] = (), *, by: Actor
) -> CartView:
    """Make a cart, of `cart_fields.FIELDS`, with lines if there are any.

    Raises:
        InvalidError: a value is not acceptable.
    """
    given = await cart_fields.held(session, fields)
    given["currency"] = await cart_fields.currency_of(session, fields.get("currency"))
    values = await cart_fields.checked(session, given, before={}, code_currency=given["currency"])
    cart = Cart(tenant_id=session.tenant_id, id=new_id(), **values)
    session.add(cart)
    await session.flush()
    await session.refresh(cart)
    made = Change(cart, {name: (None, cart_fields.shown(name, value)) for name, value in values.items()})
    await cart_lines.put_into(session, made, lines)
    return await logged(session, made, CART_CREATED, by=by, silent=not lines)


async def change(
    session: TenantSession, cart_id: UUID, fields: Mapping[str, Any], *, by: Actor, version: int | None = None
) -> CartView:
    """Change a cart's fields, of `cart_fields.FIELDS`.

    Raises:
        NotFoundError: no such cart in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: it is not open, or not in `version` any more.
    """
    given = await cart_fields.held(session, fields)
    cart = await opened(session, cart_id, version=version)
    if "currency" in given:
        given["currency"] = await cart_fields.currency_of(session, given["currency"])
    before = {name: getattr(cart, name) for name in cart_fields.FIELDS}
    values = await cart_fields.checked(
        session, given, before=before, code_currency=given.get("currency", cart.currency)
    )
    made = Change(cart)
    for name, value in values.items():
        if before[name] != value:
            setattr(cart, name, value)
            made.log[name] = (cart_fields.shown(name, before[name]), cart_fields.shown(name, value))
    return await told(session, made, by=by) if made.log else await view(session, cart)


async def join(
    session: TenantSession, cart_id: UUID, other_id: UUID, *, by: Actor, version: int | None = None
) -> CartView:
    """Take what is in another open cart, as a guest's, into a cart: pieces of the same variant add up.

    The other one is `joined` from then on. What this one lacks of person, company, email address and code it takes too.

    Raises:
        NotFoundError: no such cart in this tenant.
        InvalidError: both are the same, or it would be too much.
        ConflictError: one is not open, they are of two people or in two currencies, or it is not in `version` any more.
    """
    if cart_id == other_id:
        raise InvalidError.of("cart_id", "is the cart itself")
    await cart_fields.held(session, {"person_id": (await get(session, other_id)).person_id})
    for each in sorted((cart_id, other_id)):  # in one order, so that nobody waits for somebody who waits for them
        await locked(session, each)
    cart = await opened(session, cart_id, version=version)
    other = await opened(session, other_id)
    if other.person_id is not None and cart.person_id not in {None, other.person_id}:
        raise ConflictError("The carts are of two people.", errors=[FieldProblem("cart_id", "is another person's")])
    if cart.currency != other.currency:
        reason = f"is in {other.currency}, not {cart.currency}"
        raise ConflictError("The carts are in two currencies.", errors=[FieldProblem("cart_id", reason)])
    made = Change(cart, {"joined": (None, str(other_id))})
    for name in ("person_id", "organization_id", "email", "discount_code"):
        if getattr(cart, name) is None and getattr(other, name) is not None:
            setattr(cart, name, getattr(other, name))
            made.log[name] = (None, cart_fields.shown(name, getattr(cart, name)))
    lines = await session.scalars(
        select(CartLine)
        .where(CartLine.tenant_id == session.tenant_id, CartLine.cart_id == other_id)
        .order_by(CartLine.id)
    )
    await cart_lines.add_to(session, made, {line.variant_id: line.quantity for line in lines})
    other.status, other.joined_into, other.version = "joined", cart_id, other.version + 1
    other.updated_at = func.now()
    await session.flush()
    await activity.record(
        session,
        by=by,
        subject_type="cart",
        subject_id=other_id,
        type=CART_JOINED,
        changes={"joined_into": (None, str(cart_id))},
    )
    found = await told(session, made, by=by)
    properties = {"cart_id": str(other_id), "joined_into": str(cart_id)}
    await publish(session, [about(CART_JOINED, other, properties, person_id=cart.person_id)])
    return found


async def page(
    session: TenantSession,
    *,
    person_id: UUID | None,
    status: str | None,
    limit: int,
    before: UUID | None,
) -> list[Cart]:
    """Return up to `limit` carts, newest first, those made before `before` only; every filter given must hold."""
    statement = select(Cart).where(Cart.tenant_id == session.tenant_id)
    if person_id is not None:
        statement = statement.where(Cart.person_id == await aliases.living(session, person_id))
    if status is not None:
        statement = statement.where(Cart.status == status)
    if before is not None:
        statement = statement.where(Cart.id < before)
    return list(await session.scalars(statement.order_by(Cart.id.desc()).limit(limit)))
