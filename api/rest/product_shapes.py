"""What products, variants and prices look like in requests and answers."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, JsonValue, StrictBool

from api.fields import CurrencyCode, Key, Money, Name, Strict
from core import currency
from core.errors import InvalidError
from models import Price, Variant
from services.commerce.catalogue import Offered, Shown
from services.commerce.product_fields import (
    MAX_CATEGORIES,
    MAX_DESCRIPTION,
    MAX_OPTIONS,
    MAX_PRICES,
    MAX_SKU,
    MAX_VARIANTS,
    NewPrice,
    ProductChange,
    VariantChange,
)

Status = Literal["draft", "active", "archived"]
Sku = Annotated[str, Field(min_length=1, max_length=MAX_SKU, examples=["SHIRT-M-RED"])]
Options = Annotated[dict[str, str], Field(max_length=MAX_OPTIONS, examples=[{"size": "M", "colour": "red"}])]
Amount = Annotated[Decimal, Field(max_digits=18, allow_inf_nan=False)]

_OF_VARIANT = ("name", "options", "active", "tracked", "backorder", "tax_class")
_OF_PRODUCT = ("key", "name", "description", "status", "external_id")


class AmountIn(Strict):
    """What something costs in a currency that is named elsewhere."""

    amount: Amount
    """Decimal text, such as `"12.50"`."""
    compare_at: Amount | None = None
    """What it cost before, to be shown struck through."""

    def price(self, code: str, path: str = "") -> NewPrice:
        """Return it as it is kept.

        Raises:
            InvalidError: it is finer than the currency's smallest unit, or that is unknown.
        """
        minor: dict[str, int | None] = {}
        for name, value in (("amount", self.amount), ("compare_at", self.compare_at)):
            try:
                minor[name] = None if value is None else currency.to_minor(value, code)
            except ValueError as problem:
                raise InvalidError.of(f"{path}{name}", str(problem)) from problem
        return NewPrice(currency=code, amount_minor=minor["amount"] or 0, compare_at_minor=minor["compare_at"])


class PriceIn(AmountIn):
    """What a variant costs in a currency."""

    currency: CurrencyCode


Prices = Annotated[list[PriceIn], Field(max_length=MAX_PRICES)]


def prices_of(given: list[PriceIn], path: str = "prices") -> list[NewPrice]:
    """Return prices as they are kept."""
    return [price.price(price.currency, f"{path}.{number}.") for number, price in enumerate(given)]


class VariantFields(Strict):
    """What may be said of a variant."""

    name: Name | None = None
    """Behind the product's; without one of a product's only variant."""
    options: Options | None = None
    active: StrictBool = True
    """Whether it can be put into a cart."""
    tracked: StrictBool = True
    """Whether its stock is counted; one that is not never runs out."""
    backorder: StrictBool = False
    """Whether more may be sold than there is."""
    tax_class: Key = "standard"
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; a null removes."""
    prices: Prices | None = None
    """All it has: one for each currency it can be had in."""

    def of_variant(self, sku: str | None, path: str, *, whole: bool) -> VariantChange:
        """Return what is to be true of the variant: what is given, or with `whole` all."""
        given = set(_OF_VARIANT) if whole else self.model_fields_set
        fields = {name: getattr(self, name) for name in _OF_VARIANT if name in given}
        return VariantChange(
            sku=sku,
            fields=fields,
            attributes=self.attributes,
            prices=None if self.prices is None else prices_of(self.prices, f"{path}prices"),
        )


class VariantIn(VariantFields):
    """A variant: a product in one size and colour."""

    sku: Sku

    def change(self, path: str = "", *, whole: bool = False) -> VariantChange:
        """Return what is to be true of it."""
        return self.of_variant(self.sku, path, whole=whole)


class VariantPatch(VariantFields):
    """What to change; a field left out stays."""

    sku: Sku | None = None

    def change(self) -> VariantChange:
        """Return what is to be true of it."""
        return self.of_variant(self.sku, "", whole=False)


Variants = Annotated[list[VariantIn], Field(max_length=MAX_VARIANTS)]


class ProductFields(Strict):
    """What may be said of a product."""

    key: Key | None = None
    """Ends its address in a shop; made of the name unless given."""
    description: Annotated[str | None, Field(max_length=MAX_DESCRIPTION)] = None
    status: Status = "active"
    """Only an active one can be put into a cart."""
    external_id: str | None = None
    """The id another system knows it by."""
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; a null removes."""
    category_ids: Annotated[list[UUID] | None, Field(max_length=MAX_CATEGORIES)] = None
    """All categories it stands in."""

    def of_product(self, variants: list[VariantIn] | None, *, whole: bool) -> ProductChange:
        """Return what is to be true of the product: what is given, or with `whole` all but the key."""
        given = (set(_OF_PRODUCT) - {"key"} if whole else set[str]()) | self.model_fields_set
        categories = [] if whole and self.category_ids is None else self.category_ids
        return ProductChange(
            fields={name: getattr(self, name) for name in _OF_PRODUCT if name in given},
            attributes=self.attributes,
            categories=categories,
            variants=None
            if variants is None
            else [one.change(f"variants.{number}.", whole=whole) for number, one in enumerate(variants)],
            whole=whole,
        )


class ProductIn(ProductFields):
    """A product to make, or to change where the external id is known: then variants not named stay."""

    name: Name | None = None
    """Needed of a new product."""
    variants: Variants | None = None
    """Known by their SKUs, in their order. A new product needs one at least."""

    def change(self) -> ProductChange:
        """Return what is to be true of the product."""
        return self.of_product(self.variants, whole=False)


class ProductPatch(ProductIn):
    """What to change; a field left out stays. Variants named are made or changed, the others stay."""


class ProductPut(ProductFields):
    """All there is to say of a product: what is left out is as it would be in a new one, but for the key.

    Variants keep their ids by their SKUs; those left out are deleted, or archived where they were sold or stocked.
    """

    name: Name
    variants: Annotated[list[VariantIn], Field(min_length=1, max_length=MAX_VARIANTS)]

    def change(self) -> ProductChange:
        """Return what is to be true of the product."""
        return self.of_product(self.variants, whole=True)


class PriceOut(Money):
    """What a variant costs in a currency."""

    compare_at: Decimal | None

    @classmethod
    def of_row(cls, row: Price) -> "PriceOut":
        """Return it as it is shown."""
        before = None if row.compare_at_minor is None else currency.from_minor(row.compare_at_minor, row.currency)
        amount = currency.from_minor(row.amount_minor, row.currency)
        return cls(amount=amount, currency=row.currency, compare_at=before)


class VariantOut(Strict):
    """A variant."""

    id: UUID
    product_id: UUID
    sku: str
    name: str | None
    options: dict[str, Any]
    position: int
    active: bool
    tracked: bool
    backorder: bool
    tax_class: str
    attributes: dict[str, Any]
    prices: list[PriceOut]
    available: int | None
    """How many can be had, over all active locations; null where its stock is not counted."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, one: Offered) -> "VariantOut":
        """Return it as it is shown."""
        row: Variant = one.variant
        own = {name: getattr(row, name) for name in cls.model_fields if name not in {"prices", "available"}}
        return cls(**own, prices=[PriceOut.of_row(price) for price in one.prices], available=one.available)


class ProductOut(Strict):
    """A product with its variants."""

    id: UUID
    key: str
    name: str
    description: str | None
    status: Status
    external_id: str | None
    attributes: dict[str, Any]
    category_ids: list[UUID]
    variants: list[VariantOut]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, one: Shown) -> "ProductOut":
        """Return it as it is shown."""
        own = {
            name: getattr(one.product, name) for name in cls.model_fields if name not in {"category_ids", "variants"}
        }
        variants = [VariantOut.of(variant) for variant in one.variants]
        return cls(**own, category_ids=one.category_ids, variants=variants)
