"""Shares compared: against figures from the literature, by exact enumeration, and by what must always hold."""

from math import comb

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.marketing.outcomes.proportions import Count, compare, enough, rank, wilson


@st.composite
def counts(draw: st.DrawFn) -> Count:
    trials = draw(st.integers(0, 100_000))
    return Count(draw(st.integers(0, trials)), trials)


def test_the_interval_of_a_share_is_as_published() -> None:
    # Newcombe 1998 (two-sided intervals for the single proportion, table I): 81 of 263 and 15 of 148
    assert wilson(Count(81, 263)) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(Count(15, 148)) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(Count(0, 20)) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(Count(1, 29)) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_interval_of_a_difference_is_as_published() -> None:
    # Newcombe 1998 (interval estimation for the difference, table II, method 10)
    for first, second, low, high in (
        (Count(56, 70), Count(48, 80), 0.0524, 0.3339),
        (Count(9, 10), Count(3, 10), 0.1705, 0.8090),
        (Count(10, 10), Count(0, 20), 0.6791, 1.0),
        (Count(5, 56), Count(0, 29), -0.0381, 0.1926),
    ):
        found = compare(first, second)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_the_test_is_the_chi_squared_one_of_a_two_by_two_table() -> None:
    found = compare(Count(56, 70), Count(48, 80))
    # chi squared = n (ad - bc)^2 / (products of the margins), and z is its root
    chi_squared = 150 * (56 * 32 - 14 * 48) ** 2 / (70 * 80 * 104 * 46)
    assert found.z**2 == pytest.approx(chi_squared)
    assert found.p_value == pytest.approx(0.00804, abs=1e-5)
    # at the quantiles everybody knows
    assert compare(Count(596, 10_000), Count(500, 10_000)).z > 2.576


def test_few_are_wrongly_said_to_differ() -> None:
    """By every outcome of two samples of 60 with one share, the error is near the one asked for."""
    trials, share = 60, 0.3
    probability = [comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    wrong = sum(
        probability[a] * probability[b]
        for a in range(trials + 1)
        for b in range(trials + 1)
        if rank([Count(a, trials), Count(b, trials)]).significant
    )
    assert 0.03 < wrong < 0.06


@given(counts(), counts())
def test_a_comparison_is_symmetric_and_within_its_bounds(first: Count, second: Count) -> None:
    found, turned = compare(first, second), compare(second, first)
    assert found.difference == pytest.approx(-turned.difference, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low), abs=1e-12)
    assert found.p_value == pytest.approx(turned.p_value)
    assert 0 <= found.p_value <= 1
    assert -1 <= found.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.high <= 1


@given(counts())
def test_a_share_lies_in_its_interval(count: Count) -> None:
    low, high = wilson(count)
    assert 0 <= low <= count.rate + 1e-12
    assert count.rate - 1e-12 <= high <= 1


@given(st.lists(counts(), min_size=1, max_size=6), st.floats(0.001, 0.4))
def test_the_one_ahead_has_the_highest_share_and_the_correction_only_takes_away(
    found: list[Count], significance: float
) -> None:
    ranking = rank(found, significance)
    assert found[ranking.best].rate == pytest.approx(max(each.rate for each in found))
    assert all(each.adjusted_p >= each.difference.p_value for each in ranking.comparisons)
    assert len(ranking.comparisons) == len(found) - 1
    if ranking.significant:
        assert ranking.enough
        assert all(each.difference.difference > 0 for each in ranking.comparisons)


@given(st.lists(counts(), min_size=2, max_size=5), st.data())
def test_the_order_of_the_variants_decides_nothing(found: list[Count], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(found))))
    ranking, other = rank(found), rank([found[index] for index in order])
    assume(ranking.significant)
    assert other.significant
    assert order[other.best] == ranking.best


def test_holm_corrects_for_several_comparisons() -> None:
    two = rank([Count(130, 1000), Count(101, 1000)])
    assert two.significant
    many = rank([Count(130, 1000), *[Count(101, 1000)] * 4])
    assert not many.significant
    assert [each.adjusted_p for each in many.comparisons] == pytest.approx([4 * two.comparisons[0].adjusted_p] * 4)


def test_too_little_is_never_enough() -> None:
    assert not enough([Count(29, 29), Count(0, 29)])
    assert not enough([Count(0, 10_000), Count(1, 10_000)])
    assert not enough([Count(0, 0), Count(100, 1000)])
    assert enough([Count(5, 30), Count(5, 30)])
    assert not rank([Count(20, 20), Count(0, 20)]).significant
    with pytest.raises(ValueError, match="3 of 2"):
        Count(3, 2)
