"""What a cart costs: pure, in whole smallest units.

How amounts are rounded, always half away from zero:

- a discount in percent once, of all goods; it is then split over the lines by largest remainder, so that its parts
  add up to it exactly and no part is above its line;
- tax once a line, of what the line costs after its discount, and once of shipping;
- everything else is a sum of whole units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from core.errors import InvalidError

MAX_MINOR: Final = 10**18 - 1
"""As many digits as amounts have at the edge."""
WHOLE_BP: Final = 10_000
"""All of it, in hundredths of a percent."""
WHOLE_PPM: Final = 1_000_000
"""All of it, in millionths: tax rates are of at most four decimal places of a percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingLine:
    """Some pieces of a variant, to be priced."""

    variant_id: UUID
    sku: str
    name: str
    quantity: int
    unit_minor: int
    tax_ppm: int = 0
    """Of its tax class where it goes to, in millionths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingDiscount:
    """A code that holds for the cart."""

    code: str
    kind: Literal["percent", "amount", "shipping"]
    percent_bp: int | None = None
    """Hundredths of a percent."""
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingShipping:
    """How it is sent."""

    method: str
    amount_minor: int
    free_from_minor: int | None = None
    """Costs nothing where the goods, after discount, are at least this."""
    tax_ppm: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingInput:
    """All that the price of a cart depends on."""

    currency: str
    lines: Sequence[PricingLine]
    tax_included: bool = False
    """Whether prices of goods and shipping hold the tax."""
    discount: PricingDiscount | None = None
    shipping: PricingShipping | None = None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PricedLine(_Frozen):
    """What some pieces of a variant cost."""

    variant_id: UUID
    sku: str
    name: str
    quantity: int
    unit_minor: int
    discount_minor: int
    """Its share of the cart's discount."""
    tax_minor: int
    """In its total either way: in the unit price where tax is included, on top where it is not."""
    total_minor: int
    """What is paid for it, with tax."""


class Priced(_Frozen):
    """What a cart costs: `total = subtotal - discount + shipping`, and the tax on top where it is not included."""

    currency: str
    lines: tuple[PricedLine, ...]
    subtotal_minor: int
    """The goods before discount."""
    discount_minor: int
    """Never above the goods."""
    shipping_minor: int
    shipping_tax_minor: int
    """Part of `tax_minor`."""
    tax_minor: int
    tax_included: bool
    total_minor: int
    """Also the sum of the lines' totals and shipping."""
    discount_code: str | None
    shipping_method: str | None


def price(given: PricingInput) -> Priced:
    """Return what it costs.

    Raises:
        InvalidError: it is more than can be counted.
    """
    amounts = [line.unit_minor * line.quantity for line in given.lines]
    subtotal = sum(amounts)
    discount = _discount(given.discount, subtotal)
    shares = split(discount, amounts)
    lines = tuple(
        _line(line, amount, share, included=given.tax_included)
        for line, amount, share in zip(given.lines, amounts, shares, strict=True)
    )
    shipping = _shipping(given, subtotal - discount)
    shipping_tax = 0 if given.shipping is None else tax_of(shipping, given.shipping.tax_ppm, given.tax_included)
    tax = sum(line.tax_minor for line in lines) + shipping_tax
    total = subtotal - discount + shipping + (0 if given.tax_included else tax)
    if max(subtotal, total) > MAX_MINOR:
        raise InvalidError.of("lines", "cost more than can be counted")
    return Priced(
        currency=given.currency,
        lines=lines,
        subtotal_minor=subtotal,
        discount_minor=discount,
        shipping_minor=shipping,
        shipping_tax_minor=shipping_tax,
        tax_minor=tax,
        tax_included=given.tax_included,
        total_minor=total,
        discount_code=None if given.discount is None else given.discount.code,
        shipping_method=None if given.shipping is None else given.shipping.method,
    )


def tax_of(minor: int, ppm: int, included: bool) -> int:  # noqa: FBT001 - as it stands in what is priced
    """Return the tax in an amount that includes it, or on one that does not."""
    return _rounded(minor * ppm, WHOLE_PPM + ppm if included else WHOLE_PPM)


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Return parts of an amount, in proportion to weights, that add up to it; of equal claims the first is served.

    Nothing is split where all weights are zero, so the amount must then be zero too. Where the amount is not above
    the sum of the weights, no part is above its weight.
    """
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    parts = [amount * weight // whole for weight in weights]
    by_claim = sorted(range(len(weights)), key=lambda number: (-(amount * weights[number] % whole), number))
    for number in by_claim[: amount - sum(parts)]:
        parts[number] += 1
    return parts


def _discount(discount: PricingDiscount | None, subtotal: int) -> int:
    if discount is None:
        return 0
    if discount.percent_bp is not None:
        return _rounded(subtotal * discount.percent_bp, WHOLE_BP)
    return min(discount.amount_minor or 0, subtotal)


def _line(line: PricingLine, amount: int, share: int, *, included: bool) -> PricedLine:
    tax = tax_of(amount - share, line.tax_ppm, included)
    return PricedLine(
        variant_id=line.variant_id,
        sku=line.sku,
        name=line.name,
        quantity=line.quantity,
        unit_minor=line.unit_minor,
        discount_minor=share,
        tax_minor=tax,
        total_minor=amount - share + (0 if included else tax),
    )


def _shipping(given: PricingInput, goods: int) -> int:
    shipping = given.shipping
    if shipping is None or (given.discount is not None and given.discount.kind == "shipping"):
        return 0
    if shipping.free_from_minor is not None and goods >= shipping.free_from_minor:
        return 0
    return shipping.amount_minor


def _rounded(numerator: int, denominator: int) -> int:
    """Return the quotient of what is not negative, half rounded up."""
    return (2 * numerator + denominator) // (2 * denominator)
