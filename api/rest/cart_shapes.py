"""What carts look like in requests and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, JsonValue, StrictInt

from api.fields import CurrencyCode, Money, Strict
from core.errors import InvalidError
from integrations.shipping.port import Offer
from services.commerce.cart_lines import MAX_LINES, MAX_QUANTITY, Wanted
from services.commerce.cart_pricing import CartLineView, CartView
from services.shared import address_rules

CartStatus = Literal["open", "checking_out", "ordered", "joined"]

Quantity = Annotated[StrictInt, Field(ge=1, le=MAX_QUANTITY)]
Version = Annotated[StrictInt | None, Field(ge=0, le=2**31 - 1)]
"""Refused with 409 where the cart is in another version by now; the header `If-Match` says the same."""
_Text = Annotated[str | None, Field(max_length=1200)]
_Code = Annotated[str | None, Field(min_length=1, max_length=64, pattern=r"\S")]


class CartAddress(Strict):
    """Where to; it may lack anything but the country, as shops ask bit by bit."""

    name: _Text = None
    company: _Text = None
    street: _Text = None
    """Up to five lines."""
    city: _Text = None
    city_area: _Text = None
    region: _Text = None
    """State, province or canton, by its name or as the post abbreviates it."""
    postal_code: _Text = None
    sorting_code: _Text = None
    country: Annotated[str, Field(max_length=200, examples=["DE"])]
    """ISO 3166-1 alpha-2."""

    def written(self) -> dict[str, str | None]:
        """Return its fields."""
        return {name: getattr(self, name) for name in (*address_rules.FIELDS, "country")}


class LineIn(Strict):
    """Pieces of a variant."""

    variant_id: UUID | None = None
    sku: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """In place of `variant_id`."""
    quantity: Quantity = 1

    def wanted(self, field: str = "") -> Wanted:
        """Return what is to be put into the cart; `field` leads to this line where there are several.

        Raises:
            InvalidError: the variant is named twice, or not at all.
        """
        if (self.variant_id is None) == (self.sku is None):
            raise InvalidError.of(f"{field}variant_id", "or sku must be given, and not both")
        return Wanted(variant_id=self.variant_id, sku=self.sku, quantity=self.quantity, at=field)


class NewLine(LineIn):
    """Pieces to put into a cart."""

    version: Version = None


class LinePatch(Strict):
    """How many pieces a line is to have."""

    quantity: Quantity
    version: Version = None


class JoinIn(Strict):
    """Which cart is to be taken into this one."""

    cart_id: UUID
    version: Version = None


class _CartFields(Strict):
    person_id: UUID | None = None
    organization_id: UUID | None = None
    """The company that is to pay on its terms."""
    email: Annotated[str | None, Field(max_length=1000)] = None
    """Of a guest."""
    currency: CurrencyCode | None = None
    """The tenant's base currency unless given."""
    discount_code: _Code = None
    shipping_method: Annotated[str | None, Field(max_length=63)] = None
    """Its key."""
    shipping_address: CartAddress | None = None
    billing_address: CartAddress | None = None
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; null removes."""

    def fields(self) -> dict[str, Any]:
        """Return the fields that were given."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"lines", "version"}}
        for name in ("shipping_address", "billing_address"):
            if isinstance(address := given.get(name), CartAddress):
                given[name] = address.written()
        return given


class CartIn(_CartFields):
    """A new cart."""

    lines: Annotated[list[LineIn], Field(default_factory=list[LineIn], max_length=MAX_LINES)]

    def wanted(self) -> list[Wanted]:
        """Return what is to be put into it."""
        return [line.wanted(f"lines.{number}.") for number, line in enumerate(self.lines)]


class CartPatch(_CartFields):
    """What to change; null clears, but for the currency, which it makes the tenant's."""

    version: Version = None


class CartLineOut(Strict):
    """A line of a cart, with what it costs now."""

    id: UUID
    variant_id: UUID
    product_id: UUID
    sku: str
    name: str
    options: dict[str, Any]
    quantity: int
    available: bool
    """Whether it can be sold: one that cannot has no amounts and is in no sum."""
    problem: str | None
    """Why it cannot."""
    in_stock: bool
    """A hint: whether as many could be had just now. Nothing is held before checkout."""
    unit: Money | None
    compare_at: Money | None
    """What a piece cost before."""
    discount: Money | None
    """Its share of the cart's discount."""
    tax: Money | None
    total: Money | None
    """What is paid for it, with tax."""

    @classmethod
    def of(cls, line: CartLineView, code: str) -> Self:
        """Return the answer for a line."""

        def money(minor: int | None) -> Money | None:
            return None if minor is None else Money.of(minor, code)

        priced = line.priced
        return cls(
            id=line.id,
            variant_id=line.variant_id,
            product_id=line.product_id,
            sku=line.sku,
            name=line.name,
            options=dict(line.options),
            quantity=line.quantity,
            available=priced is not None,
            problem=line.problem,
            in_stock=line.in_stock,
            unit=money(priced and priced.unit_minor),
            compare_at=money(line.compare_at_minor),
            discount=money(priced and priced.discount_minor),
            tax=money(priced and priced.tax_minor),
            total=money(priced and priced.total_minor),
        )


class CartProblemOut(Strict):
    """What keeps a cart from being bought as it stands."""

    code: Literal["not_for_sale", "discount", "shipping"]
    field: str
    reason: str


class CartOut(Strict):
    """A cart with what it costs now."""

    id: UUID
    status: CartStatus
    version: int
    person_id: UUID | None
    organization_id: UUID | None
    email: str | None
    currency: str
    lines: list[CartLineOut]
    subtotal: Money
    """The goods before discount."""
    discount: Money
    shipping: Money
    tax: Money
    tax_included: bool
    """Whether the tax is in the prices; else it is on top of them."""
    total: Money
    problems: list[CartProblemOut]
    discount_code: str | None
    shipping_method: str | None
    shipping_address: dict[str, Any] | None
    billing_address: dict[str, Any] | None
    attributes: dict[str, Any]
    failure: dict[str, Any] | None
    """Why its last checkout came to nothing."""
    joined_into: UUID | None
    order_id: UUID | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, found: CartView) -> Self:
        """Return the answer for a cart."""
        cart, priced, code = found.cart, found.priced, found.cart.currency
        same = {
            name: getattr(cart, name)
            for name in cls.model_fields.keys()
            - {"lines", "subtotal", "discount", "shipping", "tax", "tax_included", "total", "problems"}
        }
        return cls(
            **same,
            lines=[CartLineOut.of(line, code) for line in found.lines],
            subtotal=Money.of(priced.subtotal_minor, code),
            discount=Money.of(priced.discount_minor, code),
            shipping=Money.of(priced.shipping_minor, code),
            tax=Money.of(priced.tax_minor, code),
            tax_included=priced.tax_included,
            total=Money.of(priced.total_minor, code),
            problems=[CartProblemOut.model_validate(problem) for problem in found.problems],
        )


class OfferOut(Strict):
    """A way to send a cart."""

    key: str
    name: str
    amount: Money
    """What it costs this cart."""

    @classmethod
    def of(cls, offer: Offer, found: CartView) -> Self:
        """Return the answer for an offer."""
        goods = found.priced.subtotal_minor - found.priced.discount_minor
        free = offer.free_from_minor is not None and goods >= offer.free_from_minor
        return cls(
            key=offer.key, name=offer.name, amount=Money.of(0 if free else offer.amount_minor, found.cart.currency)
        )


class OffersOut(Strict):
    """The ways to send a cart."""

    items: list[OfferOut]
