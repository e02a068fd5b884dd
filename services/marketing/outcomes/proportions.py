"""Shares compared: is one variant better than another by more than chance?

The pooled two-proportion z-test, two-sided (Fleiss, Levin, Paik: Statistical Methods for Rates and Proportions, 3rd
edition, 2003, chapter 3), without continuity correction; the interval of a difference is Newcombe's hybrid of two
Wilson intervals (Statistics in Medicine 17, 1998, 873-890, method 10); of several variants the one that is ahead is
compared with each other one, with Holm's correction (Scandinavian Journal of Statistics 6, 1979, 65-70).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist
from typing import Final

MINIMUM_EVENTS: Final = 5
"""The normal distribution stands for the binomial one only where at least so many of each kind are expected."""
MINIMUM_SAMPLE: Final = 30
"""Recipients of each variant below which nothing is said to differ."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many of so many."""

    successes: int
    trials: int

    def __post_init__(self) -> None:
        """Refuse what is no count.

        Raises:
            ValueError: there are more successes than trials, or fewer than none.
        """
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} of {self.trials}")

    @property
    def rate(self) -> float:
        """The share; 0 of nothing is 0."""
        return self.successes / self.trials if self.trials else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """The share of the first without that of the second."""

    difference: float
    low: float
    high: float
    """Bounds of the interval at the confidence asked for."""
    z: float
    p_value: float
    """How probable so large a difference is by chance, either way."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The variant that is ahead, compared with another."""

    other: int
    difference: Difference
    adjusted_p: float
    """Corrected for how many comparisons there are."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Which variant is ahead, and whether that is more than chance."""

    best: int
    """The first of those with the highest share."""
    enough: bool
    """Whether there is enough to tell at all."""
    significant: bool
    comparisons: tuple[Comparison, ...]


def wilson(count: Count, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share; of nothing it is the whole range."""
    if not count.trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    n, rate = count.trials, count.rate
    center = rate + z * z / (2 * n)
    spread = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # of none and of all a bound is exact, which rounding would miss
    low = 0.0 if count.successes == 0 else max(0.0, (center - spread) / scale)
    high = 1.0 if count.successes == n else min(1.0, (center + spread) / scale)
    return low, high


def compare(first: Count, second: Count, confidence: float = 0.95) -> Difference:
    """Return the difference of two shares, its interval and the test of whether there is any."""
    difference = first.rate - second.rate
    low_1, high_1 = wilson(first, confidence)
    low_2, high_2 = wilson(second, confidence)
    low = difference - sqrt((first.rate - low_1) ** 2 + (high_2 - second.rate) ** 2)
    high = difference + sqrt((high_1 - first.rate) ** 2 + (second.rate - low_2) ** 2)
    trials = first.trials + second.trials
    pooled = (first.successes + second.successes) / trials if trials else 0.0
    variance = pooled * (1 - pooled)
    if not first.trials or not second.trials or variance <= 0:
        z = 0.0
    else:
        z = difference / sqrt(variance * (1 / first.trials + 1 / second.trials))
    return Difference(difference, max(-1.0, low), min(1.0, high), z, erfc(abs(z) / sqrt(2)))


def enough(counts: Sequence[Count]) -> bool:
    """Return whether the samples are large enough for the test to mean anything."""
    trials = sum(count.trials for count in counts)
    if not trials or min(count.trials for count in counts) < MINIMUM_SAMPLE:
        return False
    pooled = sum(count.successes for count in counts) / trials
    return all(count.trials * min(pooled, 1 - pooled) >= MINIMUM_EVENTS for count in counts)


def rank(counts: Sequence[Count], significance: float = 0.05) -> Ranking:
    """Return which variant is ahead, and whether of every other one by more than chance.

    Args:
        counts: at least one.
        significance: how probable a difference by chance may be.
    """
    # by whole numbers: two shares that are equal must not differ by rounding
    best = 0
    for number, count in enumerate(counts):
        ahead = counts[best]
        if count.successes * max(ahead.trials, 1) > ahead.successes * max(count.trials, 1):
            best = number
    found = [
        (number, compare(counts[best], count, 1 - significance))
        for number, count in enumerate(counts)
        if number != best
    ]
    adjusted: dict[int, float] = {}
    highest = 0.0
    for place, (number, difference) in enumerate(sorted(found, key=lambda pair: pair[1].p_value)):
        highest = max(highest, min(1.0, (len(found) - place) * difference.p_value))
        adjusted[number] = highest
    comparisons = tuple(Comparison(number, difference, adjusted[number]) for number, difference in found)
    large = enough(counts)
    return Ranking(
        best,
        large,
        large and bool(comparisons) and all(each.adjusted_p < significance for each in comparisons),
        comparisons,
    )
