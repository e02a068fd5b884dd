"""What comes again and again, by month and by year. Both are exact; a month's is rounded once, where it is shown."""

from typing import Final

MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
"""Of an interval."""


def monthly(minor: int, interval: str) -> int:
    """Return the monthly recurring revenue, halves rounded away from zero."""
    months = MONTHS[interval]
    return (2 * minor + months) // (2 * months)


def annual(minor: int, interval: str) -> int:
    """Return the annual recurring revenue: twelve times the exact monthly one."""
    return minor * 12 // MONTHS[interval]
