"""Values as text in their order: what `record_value` keeps, so that a plain index sorts them and finds ranges.

The first letter tells the kind, so kinds sort apart: booleans, dates, numbers, texts, then nothing at all. Compared in
the C collation, texts sort by code point, numbers by size, and what a date property holds by instant. Two values are
encoded alike exactly when they are the same JSON (`5` and `5.0` are), so uniqueness can be told by the text. A long
text is cut, which leaves its order among texts that begin with the same `CUT` characters to chance.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Final

from journeys.literals import as_date, as_number

CUT: Final = 200
"""How many characters of a text are kept."""
NOTHING: Final = "~"
"""Of a property that a record lacks, or that holds what has no order; after all else."""

_EXPONENT: Final = 500
"""Added to a number's exponent, which is then never negative: floats begin at 1e-324."""
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")
_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final = chr(0x10FFFF)
_SURROGATES: Final = (0xD800, 0xDFFF)


def encode(value: object, *, dates: bool = False) -> str:
    """Return a JSON value as text in its order; `dates` where its property holds dates, which sort by instant."""
    if isinstance(value, bool):
        return "b1" if value else "b0"
    if isinstance(value, str):
        at = as_date(value) if dates else None
        return text(value) if at is None else f"{instant(at)}{value}"
    number_held = as_number(value)
    return NOTHING if number_held is None else number(number_held)


def text(value: str) -> str:
    """Return a text in its order."""
    if len(value) <= CUT:
        return f"t{value}"
    return f"t{value[:CUT]}\x01{sha256(value.encode()).hexdigest()}"


def number(value: Decimal) -> str:
    """Return a number in its order: sign, exponent, digits; for a negative one all but the sign upside down."""
    if value == 0:
        return "n1"
    sign, digits, _ = value.as_tuple()
    exponent = f"{value.adjusted() + _EXPONENT:04d}"
    significant = "".join(map(str, digits)).strip("0")
    if not sign:
        return f"n2{exponent}{significant}"
    # The more digits, the smaller the number: what ends first must come last.
    return f"n0{(exponent + significant).translate(_COMPLEMENT)}~"


def instant(at: datetime) -> str:
    """Return what every text of an instant is encoded to begin with."""
    # As a difference, not by its fields: an offset may lead out of the calendar.
    return f"d{(at - _EPOCH) // _MICROSECOND:018d}"


@dataclass(frozen=True, slots=True)
class Range:
    """Encoded values from `low`, which belongs to them, up to `high`, which does not."""

    low: str
    high: str


NUMBERS: Final = Range("n", "o")
DATES: Final = Range("d", "e")


def beginning_with(prefix: str) -> Range:
    """Return where the encoded texts that begin with this one are."""
    low = f"t{prefix[:CUT]}"
    return Range(low, after(low))


def after(prefix: str) -> str:
    """Return the least text that is greater than all that begin with this one."""
    kept = prefix.rstrip(_LAST)
    following = ord(kept[-1]) + 1
    if _SURROGATES[0] <= following <= _SURROGATES[1]:
        following = _SURROGATES[1] + 1
    return kept[:-1] + chr(following)
