"""A cart on its way to being an order: prepared, held with its price frozen, confirmed, or let go again.

Each step is one short transaction, and done twice it is done once. `Cart.frozen` holds, while the cart is checked out,
what is bought at what price and which run of the workflow does it; before that what the buyer said besides.

Locks are taken as `services.commerce.orders` says, the buyer before the cart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select

from contracts.events import CHECKOUT_FAILED, CHECKOUT_STARTED
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError
from models import Cart, Organization, Payment, Variant
from services.commerce import cart_fields, carts, discounts, orders, payments, reserving
from services.commerce.checkout_errors import LetGoError, VersionError
from services.commerce.orders import Terms
from services.commerce.pricing import Priced
from services.commerce.reserving import Line, OutOfStockError
from services.events.publish import NewEvent, publish
from services.identity import people
from services.identity.people import PersonChange
from services.shared import activity

HELD_FOR: Final = timedelta(hours=2)
"""Far longer than a checkout takes: the workflow lets go, and this is for one that was terminated."""
_SAID: Final = ("shown", "version", "total", "note", "purchase_order")
"""Of `Cart.frozen`: what holds for the next attempt too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a buyer says at the checkout."""

    version: int | None = None
    """Of the cart as it was shown; None takes it as it is."""
    total: tuple[int, str] | None = None
    """What it was shown to cost, in minor units of a currency; None takes what it costs."""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the cart, as `carts.change` takes them."""
    method: str | None = None
    on_account: bool = False
    purchase_order: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a checkout holds."""

    attempt: int
    payment_id: UUID | None = None
    """None where there is nothing to pay, or it is on account."""
    order_id: UUID | None = None
    """Of a cart that was ordered before."""
    stale: bool = False
    """Another run began this attempt and is gone: it is to be released first."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What was let go."""

    order_id: UUID | None = None
    """Of a cart that was ordered after all: then nothing was."""
    payment_id: UUID | None = None
    """Of which something may have come, so that it is to be undone."""


async def prepare(session: TenantSession, cart_id: UUID, wanted: Wanted, *, by: Actor) -> Cart:
    """Take up what the buyer says of an open cart, and check that it can be bought; return it.

    Of a cart that is being checked out, or was ordered, nothing is changed. A repeated request, whose own changes gave
    the cart its version, is taken as the first.

    Raises:
        NotFoundError: no such cart in this tenant.
        InvalidError: a value is not acceptable, or it lacks a buyer or a payment.
        VersionError: the cart is not in the version named any more, or costs another amount than was shown.
        ConflictError: it was joined into another, or cannot be bought as it stands.
    """
    given = await cart_fields.held(session, wanted.fields)
    cart = await carts.locked(session, cart_id)
    if cart.status == "joined":
        raise ConflictError(
            "The cart was joined into another.",
            errors=[FieldProblem("status", "is joined")],
            extra={"joined_into": str(cart.joined_into)},
        )
    if cart.status != "open":
        return cart
    shown = cart.version if wanted.version is None else wanted.version
    said = cart.frozen or {}
    if shown != cart.version and (said.get("shown"), said.get("version")) != (shown, cart.version):
        raise _changed(cart)
    if given:
        cart = (await carts.change(session, cart_id, given, by=by)).cart
    priced = await carts.priced(session, cart)
    if wanted.total is not None and wanted.total != (priced.total_minor, priced.currency):
        raise _costs(priced)
    if cart.person_id is None and cart.email is None:
        raise InvalidError.of("email", "is needed, or person_id: an order is somebody's")
    if wanted.on_account:
        await _check_account(session, cart)
    elif priced.total_minor and wanted.method is None:
        raise InvalidError.of("payment", "is required, as there is something to pay")
    cart.frozen = {
        "shown": shown,
        "version": cart.version,
        "total": priced.total_minor,
        "note": wanted.note,
        "purchase_order": wanted.purchase_order,
    }
    await session.flush()
    return cart


async def reserve(
    session: TenantSession, cart_id: UUID, *, version: int, run: str, on_account: bool, by: Actor
) -> Holding:
    """Begin an attempt: know the buyer, freeze the price, hold goods and code, open the payment.

    Raises:
        NotFoundError: no such cart in this tenant.
        VersionError: the cart is not in this version, or costs another amount than when it was prepared.
        OutOfStockError: there are not enough pieces.
        ConflictError: it cannot be bought as it stands; the error's code says why.
    """
    buyer = await _buyer(session, await carts.get(session, cart_id), by=by)
    cart = await carts.locked(session, cart_id)
    if cart.order_id is not None:
        return Holding(cart.attempt, order_id=cart.order_id)
    said = cart.frozen or {}
    if cart.status == "checking_out":
        begun = await session.scalar(_payment_of(cart, cart.attempt))
        return Holding(cart.attempt, None if begun is None else begun.id, stale=said.get("run") != run)
    if cart.status != "open" or cart.version != version:
        raise _changed(cart)
    cart.person_id = cart.person_id or buyer
    priced = await carts.priced(session, cart)
    if said.get("total", priced.total_minor) != priced.total_minor:
        raise _costs(priced)
    cart.status, cart.attempt, cart.failure = "checking_out", cart.attempt + 1, None
    await reserving.reserve(
        session,
        cart_id=cart_id,
        attempt=cart.attempt,
        lines=[Line(line.variant_id, line.quantity) for line in priced.lines],
        expires_at=datetime.now(UTC) + HELD_FOR,
    )
    await discounts.hold(session, cart, cart.person_id)
    payment: Payment | None = None
    if priced.total_minor and not on_account:
        payment = await payments.open(
            session,
            cart_id=cart_id,
            attempt=cart.attempt,
            amount_minor=priced.total_minor,
            currency=priced.currency,
        )
    cart.frozen = {**_kept(said), "run": run, "on_account": on_account, "priced": priced.model_dump(mode="json")}
    cart.updated_at = func.now()
    await session.flush()
    total = str(currency.from_minor(priced.total_minor, priced.currency))
    await _tell(session, cart, CHECKOUT_STARTED, {"total": total, "currency": priced.currency}, by=by)
    return Holding(cart.attempt, None if payment is None else payment.id)


async def confirm(session: TenantSession, cart_id: UUID, *, attempt: int, payment_id: UUID | None, by: Actor) -> UUID:
    """Make the order of an attempt that is paid, or on account; return its id. A second time it is the same order.

    Raises:
        NotFoundError: no such cart in this tenant.
        LetGoError: the attempt holds nothing any more.
        CreditLimitError: the organization would owe more than its limit.
        ConflictError: the payment is not captured, or what was held was let go.
    """
    cart = await carts.locked(session, cart_id)
    if cart.order_id is not None:
        return cart.order_id
    frozen = cart.frozen
    if cart.status != "checking_out" or cart.attempt != attempt or frozen is None or "priced" not in frozen:
        raise LetGoError("The checkout was given up.")
    payment = None if payment_id is None else await payments.get(session, payment_id)
    terms = Terms(on_account=frozen["on_account"], purchase_order=frozen.get("purchase_order"), note=frozen.get("note"))
    priced = Priced.model_validate(frozen["priced"])
    cart.frozen = None
    await session.flush()
    return (await orders.place(session, cart, priced, payment, by=by, terms=terms)).id


async def release(
    session: TenantSession, cart_id: UUID, *, attempt: int | None, code: str, message: str, by: Actor
) -> Freed:
    """Let go what an attempt holds, by default the last one, and open the cart; a second time it changes nothing.

    Raises:
        NotFoundError: no such cart in this tenant.
    """
    cart = await carts.locked(session, cart_id)
    if cart.order_id is not None:
        return Freed(order_id=cart.order_id)
    number = cart.attempt if attempt is None else attempt
    payment = await session.scalar(_payment_of(cart, number))
    await reserving.release(session, cart_id=cart_id, attempt=number)
    if cart.status == "checking_out" and cart.attempt == number:
        await discounts.give_back(session, [cart_id])
        cart.status, cart.frozen = "open", _kept(cart.frozen or {})
        await _failed(session, cart, {"code": code, "message": message}, by=by)
    nothing = payment is None or (payment.gateway_id is None and payment.status == "failed")
    return Freed(payment_id=None if payment is None or nothing else payment.id)


async def refuse(
    session: TenantSession, cart_id: UUID, *, code: str, error: ConflictError, by: Actor
) -> dict[str, int]:
    """Note why a checkout did not begin; return by SKU how many pieces can be had of what is short.

    Raises:
        NotFoundError: no such cart in this tenant.
    """
    failure: dict[str, Any] = {"code": code, "message": error.detail}
    short: dict[str, int] = {}
    if isinstance(error, OutOfStockError):
        rows = await session.execute(
            select(Variant.id, Variant.sku).where(
                Variant.tenant_id == session.tenant_id, Variant.id.in_(sorted(error.short))
            )
        )
        failure["short"] = short = {row.sku: error.short[row.id] for row in rows}
    cart = await carts.locked(session, cart_id)
    if cart.status == "open":
        await _failed(session, cart, failure, by=by)
    return short


async def acting(session: TenantSession, cart_id: UUID, attempt: int, client_secret: str | None) -> None:
    """Keep, for as long as the attempt goes on, what the buyer's browser confirms the payment with.

    Raises:
        NotFoundError: no such cart in this tenant.
    """
    cart = await carts.locked(session, cart_id)
    if cart.status == "checking_out" and cart.attempt == attempt and cart.frozen is not None:
        cart.frozen = {**cart.frozen, "client_secret": client_secret}
        await session.flush()


def client_secret(cart: Cart) -> str | None:
    """Return what the buyer's browser confirms the payment with, where it has to."""
    return (cart.frozen or {}).get("client_secret")


async def _buyer(session: TenantSession, cart: Cart, *, by: Actor) -> UUID | None:
    """Return whose order it will be: a guest is known by the email address from now on."""
    if cart.person_id is not None or cart.email is None or cart.status != "open":
        return cart.person_id
    change = PersonChange(identifiers={"email": cart.email}, fields={"source": "checkout"})
    return (await people.upsert(session, change, by=by, keep_shown=True))[0].id


def _payment_of(cart: Cart, attempt: int) -> Select[Payment]:
    return select(Payment).where(
        Payment.tenant_id == cart.tenant_id, Payment.cart_id == cart.id, Payment.attempt == attempt
    )


def _kept(frozen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: frozen[name] for name in _SAID if name in frozen}


def _changed(cart: Cart) -> VersionError:
    return VersionError(
        f"The cart was changed meanwhile: it is in version {cart.version}.",
        errors=[FieldProblem("version", f"is {cart.version} by now")],
        extra={"version": cart.version},
    )


def _costs(priced: Priced) -> VersionError:
    total = f"{currency.from_minor(priced.total_minor, priced.currency)} {priced.currency}"
    return VersionError(
        f"The cart costs {total} by now: show it again.",
        errors=[FieldProblem("total", f"is {total} by now")],
    )


async def _check_account(session: TenantSession, cart: Cart) -> None:
    if cart.organization_id is None:
        raise InvalidError.of("on_account", "needs a cart of an organization: set its organization_id")
    theirs = await session.scalar(
        select(Organization.currency).where(
            Organization.tenant_id == session.tenant_id, Organization.id == cart.organization_id
        )
    )
    if theirs != cart.currency:
        raise InvalidError.of("on_account", f"the organization's account is in {theirs}, not {cart.currency}")


async def _failed(session: TenantSession, cart: Cart, failure: Mapping[str, Any], *, by: Actor) -> None:
    cart.failure, cart.updated_at = dict(failure), func.now()
    await session.flush()
    await _tell(session, cart, CHECKOUT_FAILED, {"code": failure["code"]}, by=by)


async def _tell(session: TenantSession, cart: Cart, verb: str, said: Mapping[str, Any], *, by: Actor) -> None:
    changes = {name: (None, value) for name, value in {"attempt": cart.attempt, **said}.items()}
    await activity.record(session, by=by, subject_type="cart", subject_id=cart.id, type=verb, changes=changes)
    about = {"cart_id": str(cart.id), "attempt": cart.attempt, **said}
    event = (
        NewEvent(verb, cart.id, subject_type="cart", properties=about)
        if cart.person_id is None
        else NewEvent(verb, cart.person_id, properties=about)
    )
    await publish(session, [event])
