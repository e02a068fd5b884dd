"""Exact sums, rounded once where they are shown."""

from fractions import Fraction


def rounded(exact: Fraction) -> int:
    """Return the whole number next to one that is not negative, halves rounded away from zero."""
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


def share(part: int, whole: int) -> float | None:
    """Return which share a part is of a whole; None of nothing."""
    return part / whole if whole else None
