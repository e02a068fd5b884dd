"""Amounts are worth what the rates of their day say, rounded once, and follow rates that change."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core import currency
from core.actor import CLI
from core.errors import ConflictError, InvalidError, NotFoundError
from services.crm import rates
from services.crm.rates import Amount, NewRate
from tests.factories.selling import Selling


def today() -> date:
    return datetime.now(UTC).date()


async def test_a_closed_deal_keeps_its_day_and_an_open_one_follows(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("USD", "0.5", today() - timedelta(days=10))
    usd = {"currency": "USD", "amount_minor": 1001}
    ten_days_ago = datetime.now(UTC) - timedelta(days=10)
    closed = await selling.deal(stages["won"], created_at=ten_days_ago, **usd)
    open_deal = await selling.deal(stages["new"], **usd)
    assert [(await selling.row(one)).base_minor for one in (closed, open_deal)] == [501, 501]
    await selling.rate("USD", "0.7", today())
    assert [(await selling.row(one)).base_minor for one in (closed, open_deal)] == [501, 701]
    await selling.rate("USD", "0.6", today() - timedelta(days=5))
    assert [(await selling.row(one)).base_minor for one in (closed, open_deal)] == [501, 701]
    await selling.rate("USD", "0.4", today() - timedelta(days=10))
    assert [(await selling.row(one)).base_minor for one in (closed, open_deal)] == [400, 701]
    await selling.move([closed], stages["new"])
    assert (await selling.row(closed)).base_minor == 701
    async with selling.session() as session:
        await rates.remove(session, None, "USD", today(), by=CLI)
    assert [(await selling.row(one)).base_minor for one in (closed, open_deal)] == [601, 601]


async def test_the_only_rate_stays_while_deals_need_it(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("JPY", "0.0061")
    made = await selling.deal(stages["new"], currency="JPY", amount_minor=1000)
    assert (await selling.row(made)).base_minor == 610
    with pytest.raises(ConflictError):
        async with selling.session() as session:
            await rates.remove(session, None, "JPY", today(), by=CLI)
    with pytest.raises(NotFoundError):
        async with selling.session() as session:
            await rates.remove(session, None, "CHF", today(), by=CLI)


async def test_another_base_currency_needs_a_rate_for_every_deal(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("USD", "0.5")
    in_usd = await selling.deal(stages["new"], currency="USD", amount_minor=1000)
    in_eur = await selling.deal(stages["new"], amount_minor=1000)
    with pytest.raises(InvalidError, match="EUR"):
        async with selling.session() as session:
            await rates.change_base(session, "USD")
    new = NewRate(currency="EUR", valid_from=today(), rate=Decimal("1.9"))
    async with selling.session() as session:
        await rates.put(session, [new], base="USD", by=CLI)
        await rates.change_base(session, "USD")
    assert [(await selling.row(one)).base_minor for one in (in_usd, in_eur)] == [1000, 1900]


@pytest.mark.parametrize(
    ("code", "days", "rate", "field"),
    [
        ("USD", 1, "1", "rates.0.valid_from"),
        ("USD", 0, "0", "rates.0.rate"),
        ("USD", 0, "1e12", "rates.0.rate"),
        ("USD", 0, "0.0000000000001", "rates.0.rate"),
        ("XXX", 0, "1", "rates.0.currency"),
        ("EUR", 0, "1", "rates"),
    ],
)
async def test_rates_of_no_use_are_refused(selling: Selling, code: str, days: int, rate: str, field: str) -> None:
    new = NewRate(currency=code, valid_from=today() + timedelta(days=days), rate=Decimal(rate))
    with pytest.raises(InvalidError) as refused:
        async with selling.session() as session:
            await rates.put(session, [new], base=None, by=CLI)
    assert refused.value.errors[0].field == field


async def test_a_rate_that_no_deal_can_bear_is_refused(selling: Selling) -> None:
    stages = await selling.pipeline()
    await selling.rate("USD", "1")
    await selling.deal(stages["new"], currency="USD", amount_minor=rates.MAX_WORTH)
    for rate in ("2", "1e11"):
        with pytest.raises(InvalidError):
            await selling.rate("USD", rate)
    async with selling.session() as session:
        with pytest.raises(InvalidError):
            await rates.value(session, 5, "CHF")
        assert await rates.value(session, 5, "USD") == 5
        found = await rates.values(session, "EUR", [Amount(rates.MAX_WORTH, "USD"), Amount(7, "EUR")])
    assert found == [rates.MAX_WORTH, 7]


@example(minor=10**15, code="JPY", base="EUR", rate=Decimal(1000))
@given(
    minor=st.integers(0, 10**15),
    code=st.sampled_from(["USD", "JPY", "KWD"]),
    base=st.sampled_from(["EUR", "ISK", "OMR"]),
    rate=st.decimals("0.000001", "1000", places=6),
)
def test_a_worth_is_the_exact_one_rounded_half_away_from_zero(minor: int, code: str, base: str, rate: Decimal) -> None:
    numerator, denominator = rate.as_integer_ratio()
    numerator *= minor * 10 ** currency.EXPONENTS[base]
    denominator *= 10 ** currency.EXPONENTS[code]
    worth = (2 * numerator + denominator) // (2 * denominator)
    if worth > rates.MAX_WORTH:
        with pytest.raises(InvalidError, match="too large"):
            rates.converted(minor, code, base, rate)
    else:
        assert rates.converted(minor, code, base, rate) == worth
