"""Exact sums, rounded once where they are shown."""


def rounded(numerator: int, denominator: int) -> int:
    """Return the whole number next to a ratio that is not negative, halves rounded away from zero."""
    return (2 * numerator + denominator) // (2 * denominator)


def share(part: int, whole: int) -> float | None:
    """Return which share a part is of a whole; None of nothing."""
    return part / whole if whole else None
