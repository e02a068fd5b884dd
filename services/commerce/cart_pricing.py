"""What carts cost now, and what stands in the way of buying them; as many statements for a page of carts as for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem
from integrations.shipping.port import Consignment, Offer, Shipping
from integrations.taxes.port import Destination, Taxes
from models import Cart, Discount
from services.commerce import discounts, tax_rates
from services.commerce.cart_errors import DiscountError, EmptyCartError, NotForSaleError, ShippingError
from services.commerce.pricing import (
    Priced,
    PricedLine,
    PricingDiscount,
    PricingInput,
    PricingLine,
    PricingShipping,
    price,
)
from services.commerce.shipping_methods import TableShipping
from services.commerce.tax_rates import TableTaxes

Code = Literal["not_for_sale", "discount", "shipping"]

_LINES: Final = text("""
    SELECT l.cart_id, l.id, l.variant_id, l.quantity, v.sku, v.product_id, p.name AS product, v.name AS variant,
           v.options, v.tax_class, v.active AND p.status = 'active' AS for_sale, r.amount_minor, r.compare_at_minor,
           NOT v.tracked OR v.backorder OR l.quantity <= (
             SELECT coalesce(sum(s.available), 0) FROM stock_level s
             JOIN stock_location o ON o.tenant_id = :tenant AND o.id = s.location_id
             WHERE s.tenant_id = :tenant AND s.variant_id = v.id AND o.active) AS in_stock
    FROM cart c
    JOIN cart_line l ON l.tenant_id = :tenant AND l.cart_id = c.id
    JOIN variant v ON v.tenant_id = :tenant AND v.id = l.variant_id
    JOIN product p ON p.tenant_id = :tenant AND p.id = v.product_id
    LEFT JOIN price r ON r.tenant_id = :tenant AND r.variant_id = v.id AND r.currency = c.currency
    WHERE c.tenant_id = :tenant AND c.id = ANY(:carts)
    ORDER BY l.id
""").bindparams(bindparam("carts", type_=ARRAY(Uuid)))
# What a cart holds itself does not stand in its way.
_CODES: Final = text("""
    SELECT c.id AS cart_id, d.id AS discount_id,
           EXISTS (SELECT FROM discount_use u
                   WHERE u.tenant_id = :tenant AND u.discount_id = d.id AND u.cart_id = c.id) AS held,
           d.once_per_person AND EXISTS (
             SELECT FROM discount_use u
             WHERE u.tenant_id = :tenant AND u.person_id = c.person_id AND u.discount_id = d.id) AS used_before
    FROM cart c JOIN discount d ON d.tenant_id = :tenant AND d.code = c.discount_code
    WHERE c.tenant_id = :tenant AND c.id = ANY(:carts)
""").bindparams(bindparam("carts", type_=ARRAY(Uuid)))

_UNTAXED: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class CartLineView:
    """A line of a cart as it stands now."""

    id: UUID
    variant_id: UUID
    product_id: UUID
    sku: str
    name: str
    options: Mapping[str, Any]
    quantity: int
    compare_at_minor: int | None
    priced: PricedLine | None
    """None where it cannot be sold: it is then in no sum."""
    problem: str | None
    """Why it cannot."""
    in_stock: bool
    """A hint: whether as many could be had just now. Nothing is held before checkout."""


@dataclass(frozen=True, slots=True)
class CartProblem:
    """What keeps a cart from being bought as it stands."""

    code: Code
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class CartView:
    """A cart with what it costs now: lines that cannot be sold, and a code that does not hold, are not counted."""

    cart: Cart
    lines: Sequence[CartLineView]
    priced: Priced
    problems: Sequence[CartProblem]


@dataclass(frozen=True, slots=True)
class _Code:
    row: Discount
    held: bool
    used_before: bool


@dataclass(frozen=True, slots=True)
class _Known:
    lines: Mapping[UUID, Sequence[RowMapping]]
    codes: Mapping[UUID, _Code]
    offers: Mapping[Consignment, Sequence[Offer]]
    rates: Mapping[Destination, Mapping[str, int]]
    included: bool


async def priced(session: TenantSession, cart: Cart) -> Priced:
    """Return what a cart costs, if it can be bought as it stands.

    Raises:
        EmptyCartError: nothing is in it.
        NotForSaleError: a line of it cannot be sold.
        DiscountError: its code does not hold.
        ShippingError: its shipping method is not offered.
    """
    found = await view(session, cart)
    if not found.lines:
        raise EmptyCartError("The cart is empty.", errors=[FieldProblem("lines", "must not be empty")])
    if found.problems:
        first = found.problems[0]
        raise _ERRORS[first.code](
            f"{first.field}: {first.reason}",
            errors=[FieldProblem(problem.field, problem.reason) for problem in found.problems],
        )
    return found.priced


async def view(session: TenantSession, cart: Cart) -> CartView:
    """Return a cart with what it costs now."""
    return (await views(session, [cart]))[0]


async def views(
    session: TenantSession, carts: Sequence[Cart], *, taxes: Taxes | None = None, shipping: Shipping | None = None
) -> list[CartView]:
    """Return carts with what they cost now, in their order; by the tenant's tables unless other sources are given."""
    await session.flush()
    values = {"tenant": session.tenant_id, "carts": sorted({cart.id for cart in carts})}
    lines: dict[UUID, list[RowMapping]] = {cart.id: [] for cart in carts}
    for row in (await session.execute(_LINES, values)).mappings():
        lines[row["cart_id"]].append(row)
    sent = {_consignment(cart) for cart in carts if cart.shipping_method is not None}
    offers = await (shipping or TableShipping(session)).offers(sent)
    classes = {row["tax_class"] for rows in lines.values() for row in rows}
    classes |= {offer.tax_class for each in offers.values() for offer in each}
    places = {place for cart in carts if (place := destination(cart)) is not None}
    known = _Known(
        lines=lines,
        codes=await _codes(session, values) if any(cart.discount_code for cart in carts) else {},
        offers=offers,
        rates=await (taxes or TableTaxes(session)).rates(places, classes),
        included=await tax_rates.included(session),
    )
    return [_view(cart, known) for cart in carts]


async def offers_for(session: TenantSession, cart: Cart, *, shipping: Shipping | None = None) -> Sequence[Offer]:
    """Return the ways to send a cart; those that go where it goes, as far as that is known."""
    asked = _consignment(cart)
    return (await (shipping or TableShipping(session)).offers([asked]))[asked]


def destination(cart: Cart) -> Destination | None:
    """Return where a cart's goods are taxed: where they are sent, or else billed; None while that is not known."""
    address = cart.shipping_address or cart.billing_address
    if address is None or not address.get("country"):
        return None
    return Destination(address["country"], address.get("region"), address.get("postal_code"))


def _consignment(cart: Cart) -> Consignment:
    place = destination(cart)
    return Consignment(cart.currency, None if place is None else place.country)


async def _codes(session: TenantSession, values: Mapping[str, Any]) -> dict[UUID, _Code]:
    rows = (await session.execute(_CODES, values)).all()
    by_id = await discounts.by_id(session, {row.discount_id for row in rows})
    return {row.cart_id: _Code(by_id[row.discount_id], row.held, bool(row.used_before)) for row in rows}


def _view(cart: Cart, known: _Known) -> CartView:
    rows = known.lines[cart.id]
    place = destination(cart)
    rates = _UNTAXED if place is None else known.rates.get(place, _UNTAXED)
    sold = [row for row in rows if _sold(row)]
    problems = [
        CartProblem("not_for_sale", f"lines.{number}", _why_not(row, cart))
        for number, row in enumerate(rows)
        if not _sold(row)
    ]
    discount = _discount(cart, known, sum(row["quantity"] * row["amount_minor"] for row in sold), problems)
    offer = next((one for one in known.offers.get(_consignment(cart), ()) if one.key == cart.shipping_method), None)
    if cart.shipping_method is not None and offer is None:
        where = f" to {place.country}" if place is not None else ""
        problems.append(CartProblem("shipping", "shipping_method", f"is not offered in {cart.currency}{where}"))
    total = price(
        PricingInput(
            currency=cart.currency,
            lines=[
                PricingLine(
                    variant_id=row["variant_id"],
                    sku=row["sku"],
                    name=_name(row),
                    quantity=row["quantity"],
                    unit_minor=row["amount_minor"],
                    tax_ppm=rates.get(row["tax_class"], 0),
                )
                for row in sold
            ],
            tax_included=known.included,
            discount=discount,
            shipping=None
            if offer is None
            else PricingShipping(
                method=offer.key,
                amount_minor=offer.amount_minor,
                free_from_minor=offer.free_from_minor,
                tax_ppm=rates.get(offer.tax_class, 0),
            ),
        )
    )
    by_variant = {line.variant_id: line for line in total.lines}
    return CartView(cart, [_line(row, by_variant.get(row["variant_id"]), cart) for row in rows], total, problems)


def _line(row: RowMapping, line: PricedLine | None, cart: Cart) -> CartLineView:
    return CartLineView(
        id=row["id"],
        variant_id=row["variant_id"],
        product_id=row["product_id"],
        sku=row["sku"],
        name=_name(row),
        options=row["options"],
        quantity=row["quantity"],
        compare_at_minor=row["compare_at_minor"] if line is not None else None,
        priced=line,
        problem=_why_not(row, cart) if line is None else None,
        in_stock=row["in_stock"] and line is not None,
    )


def _sold(row: RowMapping) -> bool:
    return row["for_sale"] and row["amount_minor"] is not None


def _why_not(row: RowMapping, cart: Cart) -> str:
    return f"has no price in {cart.currency}" if row["for_sale"] else "is not for sale any more"


def _name(row: RowMapping) -> str:
    return " ".join(filter(None, (row["product"], row["variant"])))


def _discount(cart: Cart, known: _Known, subtotal: int, problems: list[CartProblem]) -> PricingDiscount | None:
    """Return the cart's discount where it holds; add to the problems where not."""
    if cart.discount_code is None:
        return None
    code = known.codes.get(cart.id)
    reason = "is not known" if code is None else _refusal(cart, code, subtotal)
    if code is None or reason is not None:
        problems.append(CartProblem("discount", "discount_code", reason or ""))
        return None
    return PricingDiscount(
        code=code.row.code,
        kind=cast("Literal['percent', 'amount', 'shipping']", code.row.kind),
        percent_bp=code.row.percent_bp,
        amount_minor=code.row.amount_minor,
    )


def _refusal(cart: Cart, code: _Code, subtotal: int) -> str | None:
    reason = None
    if not code.held:
        reason = discounts.problem_now(code.row, code_currency=cart.currency)
        if reason is None and code.used_before:
            reason = "was used by this person before"
    return reason or discounts.below_minimum(code.row, subtotal)


_ERRORS: Final[Mapping[Code, type[ConflictError]]] = {
    "not_for_sale": NotForSaleError,
    "discount": DiscountError,
    "shipping": ShippingError,
}
