"""Encoded values are in the order of the values, and alike exactly where these are."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journeys.literals import MAX_NUMBER, as_date
from services.objects.values import CUT, NOTHING, after, beginning_with, encode, instant

# The C collation compares bytes of UTF-8, which is the order of code points, and Python's.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LONG = st.tuples(TEXTS, TEXTS).map(lambda both: both[0] * 30 + both[1])
NUMBERS = st.one_of(
    st.integers(-(MAX_NUMBER - 1), MAX_NUMBER - 1),
    st.integers(-200, 200),
    st.floats(-1e29, 1e29),
    st.floats(-1, 1),
    st.sampled_from([0, -0.0, 5e-324, -5e-324, 0.1, 10, 10.0, 9.99, -10, -9.99, 100, -100]),
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.one_of(
    st.dates().filter(lambda day: day.year >= 1000).map(lambda day: day.isoformat()),
    st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=ZONES).map(datetime.isoformat),  # noqa: DTZ001 - the zones come beside
)
VALUES = st.one_of(st.booleans(), NUMBERS, TEXTS, LONG, INSTANTS)


@given(NUMBERS, NUMBERS)
@example(1.25, 1.2)
@example(-1.25, -1.2)
@example(-1, 0)
@example(10**29, 10**29 + 1)
def test_numbers_are_in_their_order(one: float, other: float) -> None:
    first, second = Decimal(str(one)), Decimal(str(other))
    assert (encode(one) < encode(other)) == (first < second)
    assert (encode(one) == encode(other)) == (first == second)


@given(TEXTS, TEXTS)
def test_texts_are_in_their_order(one: str, other: str) -> None:
    assert (encode(one) < encode(other)) == (one < other)
    assert (encode(one).encode() < encode(other).encode()) == (one < other), "as the store compares them"


@given(INSTANTS, INSTANTS)
@example("2026-01-01", "2026-01-01T00:00:00+00:00")
@example("2026-01-01T00:00:00+14:00", "2025-12-31")
def test_what_a_date_property_holds_is_in_the_order_of_time(one: str, other: str) -> None:
    first, second = as_date(one), as_date(other)
    assert first is not None
    assert second is not None
    if first != second:
        assert (encode(one, dates=True) < encode(other, dates=True)) == (first < second)
    assert encode(one, dates=True).startswith(instant(first))
    assert instant(first) == instant(first.astimezone(UTC)) if first.year > 1000 else True


@given(VALUES, VALUES, st.booleans())
@example("x" * CUT, "x" * (CUT + 1), False)
@example("x" * 300 + "a", "x" * 300 + "b", False)
@example(1, True, False)
@example("1", 1, False)
@example(1.0, 1, False)
def test_only_the_same_json_is_encoded_alike(one: object, other: object, dates: bool) -> None:
    same = type(one) is type(other) and one == other
    if not isinstance(one, str | bool) and not isinstance(other, str | bool):
        same = Decimal(json.dumps(one)) == Decimal(json.dumps(other))
    assert (encode(one, dates=dates) == encode(other, dates=dates)) == same


@given(VALUES, st.booleans())
def test_an_encoded_value_is_short_and_before_nothing(value: object, dates: bool) -> None:
    encoded = encode(value, dates=dates)
    assert encoded < NOTHING < after(NOTHING)
    assert len(encoded) <= CUT + 66


@given((TEXTS | LONG).filter(lambda text: text != ""), TEXTS, TEXTS)
@example("\U0010ffff", "", "")
@example("a\U0010ffff\U0010ffff", "b", "b")
@example("\ud7ff", "", "\ue000")
def test_the_texts_that_begin_alike_lie_in_their_range(prefix: str, more: str, other: str) -> None:
    lying = beginning_with(prefix)
    assert lying.low <= encode(prefix + more) < lying.high
    if len(prefix) <= CUT and not other.startswith(prefix):
        assert not lying.low <= encode(other) < lying.high


@pytest.mark.parametrize("value", [None, [], {}, [1]])
def test_what_has_no_order_is_nothing(value: object) -> None:
    assert encode(value) == NOTHING
