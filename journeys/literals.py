"""What the JSON values of the language are taken for: numbers, dates and texts, and what Postgres can store.

The patterns are shared with the SQL compiler, so that both evaluators take the same strings for numbers and dates. They
have no anchors (match the whole string) and use only what Python's and PostgreSQL's regular expressions have in common.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, cast

NUMBER_PATTERN: Final = r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?"
"""A string that compares as a number where the literal is one: money arrives as "100.00"."""

DATE_PATTERN: Final = (
    r"[1-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?"
)
"""A string that may be a date or a time of the years 1000 to 9999; the calendar decides (30 February is none)."""

MAX_TEXT: Final = 10_000
MAX_NESTING: Final = 16
MAX_NUMBER: Final = 10**30

Kind = Literal["number", "date", "text", "boolean"]

_NUMBER = re.compile(NUMBER_PATTERN)
_DATE = re.compile(DATE_PATTERN)


def literal_kind(value: object) -> Kind:
    """Return what a literal of a condition is compared as; `ValueError` when it is no scalar."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text" if as_date(value) is None else "date"
    raise ValueError("must be a string, a number or a boolean")


def is_scalar(value: object) -> bool:
    """Whether a value is a string, a boolean or a finite number."""
    return isinstance(value, str | bool) or is_number(value)


def is_number(value: object) -> bool:
    """Whether a value is a finite number (a boolean is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_NUMBER < value < MAX_NUMBER


def compares_as_date(value: object) -> bool:
    """Whether a literal is compared as a date."""
    return isinstance(value, str) and as_date(value) is not None


def as_number(value: object) -> Decimal | None:
    """Return a JSON number, or a string that looks like one, as a number; `None` for all else."""
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        # Through its shortest text: 0.1 is then the same number as in JSONB.
        return Decimal(str(value)) if math.isfinite(value) else None
    return Decimal(value) if isinstance(value, int) else None


def as_date(value: object) -> datetime | None:
    """Return a date or time string as an instant, midnight and UTC where it says neither; `None` for all else."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None  # The calendar has no such day.
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def storable(value: object) -> None:
    """Raise `ValueError` for JSON that is absurdly large or PostgreSQL cannot hold (NUL, half a surrogate pair)."""
    level: list[object] = [value]
    for _ in range(MAX_NESTING):
        for part in level:
            _check_leaf(part)
        level = [child for part in level for child in _parts(part)]
        if not level:
            return
    raise ValueError(f"may be nested at most {MAX_NESTING} deep")


def _check_leaf(value: object) -> None:
    if isinstance(value, int | float) and not -MAX_NUMBER < value < MAX_NUMBER:
        msg = "must be a number of at most 30 digits"
    elif not isinstance(value, str):
        return
    elif len(value) > MAX_TEXT:
        msg = f"must be at most {MAX_TEXT} characters long"
    elif "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        msg = "must not contain NUL or half a surrogate pair"
    else:
        return
    raise ValueError(msg)


def _parts(value: object) -> list[object]:
    if isinstance(value, Mapping):
        held = cast("Mapping[object, object]", value)
        return [*held.keys(), *held.values()]
    return list(cast("list[object]", value)) if isinstance(value, list) else []
