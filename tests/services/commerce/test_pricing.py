"""What carts cost, for any cart."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidError
from services.commerce.pricing import (
    MAX_MINOR,
    Priced,
    PricingDiscount,
    PricingInput,
    PricingLine,
    PricingShipping,
    price,
    split,
    tax_of,
)

MINOR = st.integers(0, 10**9)
PPM = st.sampled_from((0, 88_750, 190_000, 1_000_000)) | st.integers(0, 1_000_000)


def line(number: int, unit: int, quantity: int = 1, ppm: int = 0) -> PricingLine:
    return PricingLine(
        variant_id=UUID(int=number), sku=f"S{number}", name="Shirt", quantity=quantity, unit_minor=unit, tax_ppm=ppm
    )


@st.composite
def carts(draw: st.DrawFn) -> PricingInput:
    rows = draw(st.lists(st.tuples(MINOR, st.integers(1, 10_000), PPM), max_size=12))
    kind: Literal["percent", "amount", "shipping"] = draw(st.sampled_from(("percent", "amount", "shipping")))
    discount = PricingDiscount(
        code="LESS",
        kind=kind,
        percent_bp=draw(st.integers(1, 10_000)) if kind == "percent" else None,
        amount_minor=draw(st.integers(1, 10**12)) if kind == "amount" else None,
    )
    shipping = PricingShipping(
        method="parcel", amount_minor=draw(MINOR), free_from_minor=draw(st.none() | MINOR), tax_ppm=draw(PPM)
    )
    return PricingInput(
        currency="EUR",
        lines=[line(number, *row) for number, row in enumerate(rows)],
        tax_included=draw(st.booleans()),
        discount=draw(st.none() | st.just(discount)),
        shipping=draw(st.none() | st.just(shipping)),
    )


@given(carts())
def test_sums_are_exact_nothing_is_negative_and_no_discount_is_above_the_goods(cart: PricingInput) -> None:
    priced = price(cart)
    assert Priced.model_validate_json(priced.model_dump_json()) == priced
    extra = 0 if priced.tax_included else priced.tax_minor
    assert priced.total_minor == priced.subtotal_minor - priced.discount_minor + priced.shipping_minor + extra, (
        "as the orders' own check has it"
    )
    assert priced.subtotal_minor == sum(one.unit_minor * one.quantity for one in priced.lines)
    assert priced.discount_minor == sum(one.discount_minor for one in priced.lines)
    assert priced.tax_minor == sum(one.tax_minor for one in priced.lines) + priced.shipping_tax_minor
    shipping = priced.shipping_minor + (0 if priced.tax_included else priced.shipping_tax_minor)
    assert priced.total_minor == sum(one.total_minor for one in priced.lines) + shipping
    for one in priced.lines:
        assert 0 <= one.discount_minor <= one.unit_minor * one.quantity
        assert 0 <= one.tax_minor <= one.total_minor
    assert 0 <= priced.discount_minor <= priced.subtotal_minor
    assert min(priced.shipping_minor, priced.shipping_tax_minor, priced.total_minor) >= 0


@given(paid=MINOR, rate=PPM)
def test_tax_is_rounded_once_half_away_from_zero(paid: int, rate: int) -> None:
    within = tax_of(paid, rate, included=True)
    assert abs(Fraction(within) - Fraction(paid * rate, 1_000_000 + rate)) <= Fraction(1, 2)
    on_top = (Decimal(paid) * rate / 1_000_000).to_integral_value(ROUND_HALF_UP)
    assert tax_of(paid, rate, included=False) == on_top


@given(st.lists(MINOR, min_size=1, max_size=50), st.fractions(0, 1))
def test_parts_add_up_stay_within_their_weights_and_are_fair_to_a_unit(weights: list[int], share: Fraction) -> None:
    amount = int(sum(weights) * share)
    parts = split(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert 0 <= part <= weight
        assert abs(part - Fraction(amount * weight, sum(weights) or 1)) < 1


def test_roundings_are_those_that_the_docs_name() -> None:
    assert split(100, [1, 1, 1]) == [34, 33, 33]
    assert split(1, [999, 1_000, 1]) == [0, 1, 0]
    assert (tax_of(250, 190_000, included=False), tax_of(50, 190_000, included=False)) == (48, 10)
    assert tax_of(11_900, 190_000, included=True) == 1_900
    half = PricingDiscount(code="HALF", kind="percent", percent_bp=5_000)
    priced = price(PricingInput(currency="EUR", lines=[line(1, 333, ppm=190_000), line(2, 2)], discount=half))
    assert [one.discount_minor for one in priced.lines] == [167, 1]
    assert (priced.subtotal_minor, priced.discount_minor, priced.tax_minor, priced.total_minor) == (335, 168, 32, 199)


def test_shipping_is_free_by_code_and_from_what_goods_cost_after_discount() -> None:
    shipping = PricingShipping(method="parcel", amount_minor=495, free_from_minor=5_000, tax_ppm=200_000)

    def shipped(unit: int, discount: PricingDiscount | None = None) -> tuple[int, int, int]:
        priced = price(PricingInput(currency="EUR", lines=[line(1, unit)], discount=discount, shipping=shipping))
        return priced.shipping_minor, priced.tax_minor, priced.total_minor

    assert shipped(4_999) == (495, 99, 5_593)
    assert shipped(5_000) == (0, 0, 5_000)
    assert shipped(5_000, PricingDiscount(code="ONE", kind="amount", amount_minor=1)) == (495, 99, 5_593)
    assert shipped(1, PricingDiscount(code="FREE", kind="shipping")) == (0, 0, 1)


def test_more_than_can_be_counted_is_refused() -> None:
    with pytest.raises(InvalidError, match="more than can be counted"):
        price(PricingInput(currency="EUR", lines=[line(1, MAX_MINOR), line(2, 1)]))
