"""Members of a cohort: a set of slots kept as the bits of one integer.

An enrollment has a slot number in its cohort, counted from 0. A set of slots is an `int` whose bit `n` says that slot
`n` is in the set, so union, intersection and difference are `|`, `&` and `& ~`, and a cohort of 10,000 is 1,250 bytes.

As text, in payloads and stored state, a set is whichever of these is shortest:

- `*`: every slot from 0 to the cohort's size;
- ranges: `0-99,105,200-210`, ascending, both ends included; the empty set is the empty text;
- `b64:` and the base64 of the bits, least significant byte first.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import Annotated, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

MAX_SLOTS: Final = 1_000_000
"""Largest number of slots a text may speak of: text from outside must not make us allocate at its will."""

_ALL: Final = "*"
_BITS: Final = "b64:"
_RUN: Final = re.compile("1+")
_RANGES: Final = re.compile(r"[0-9]{1,7}(?:-[0-9]{1,7})?(?:,[0-9]{1,7}(?:-[0-9]{1,7})?)*", re.ASCII)
_DIGIT_TO_BIT: Final = bytes.maketrans(b"01", b"\x00\x01")


class MembersError(ValueError):
    """A text or a number that is no set of slots of that size."""


def everyone(size: int) -> int:
    """The set of slots 0 to `size - 1`."""
    return (1 << size) - 1


def count(members: int) -> int:
    """How many slots the set holds."""
    return members.bit_count()


def slots(members: int) -> list[int]:
    """The slots of the set, ascending."""
    digits = _digits(members)
    return list(compress(range(len(digits)), digits.encode().translate(_DIGIT_TO_BIT)))


def from_slots(numbers: Iterable[int]) -> int:
    """The set of these slots, in any order; a slot given twice is in it once.

    Raises:
        MembersError: a slot is negative or beyond `MAX_SLOTS`.
    """
    wanted = list(numbers)
    if not wanted:
        return 0
    if min(wanted) < 0 or max(wanted) >= MAX_SLOTS:
        raise MembersError(f"slots are numbers from 0 to {MAX_SLOTS - 1}")
    digits = bytearray(b"0") * (max(wanted) + 1)
    for slot in wanted:
        digits[slot] = 49  # "1"
    digits.reverse()
    return int(digits, 2)


def encode(members: int, size: int) -> str:
    """The shortest text for the set, in a cohort of `size`.

    Raises:
        MembersError: the set holds a slot that the cohort has not.
    """
    if members < 0 or members.bit_length() > size:
        raise MembersError(f"the set reaches beyond the {size} slots of its cohort")
    if size and members == everyone(size):
        return _ALL
    return shortest(members)


def decode(text: str, size: int) -> int:
    """The set a text of `encode` stands for, in a cohort of `size`.

    Raises:
        MembersError: the text is malformed, or names a slot beyond `size`.
    """
    if size < 0 or size > MAX_SLOTS:
        raise MembersError(f"a cohort has 0 to {MAX_SLOTS} slots")
    members = everyone(size) if text == _ALL else _parse(text)
    if members.bit_length() > size:
        raise MembersError(f"the text names slots beyond the {size} of its cohort")
    return members


def _digits(members: int) -> str:
    """The bits as text, slot 0 first."""
    return format(members, "b")[::-1]


def shortest(members: int) -> str:
    """The shortest text for the set, in a cohort of whatever size."""
    if not members:
        return ""
    data = members.to_bytes((members.bit_length() + 7) // 8, "little")
    bits_length = len(_BITS) + (len(data) + 2) // 3 * 4
    runs = (members & ~(members << 1)).bit_count()
    if runs * 2 - 1 <= bits_length:  # a run takes a digit and a comma at least: longer lists are not worth building
        ranges = ",".join(_ranges(members))
        if len(ranges) <= bits_length:
            return ranges
    return _BITS + base64.b64encode(data).decode()


def _ranges(members: int) -> Iterator[str]:
    for run in _RUN.finditer(_digits(members)):
        first, last = run.start(), run.end() - 1
        yield str(first) if first == last else f"{first}-{last}"


def _parse(text: str) -> int:
    if not text:
        return 0
    if text.startswith(_BITS):
        return _parse_bits(text.removeprefix(_BITS))
    if not _RANGES.fullmatch(text):
        raise MembersError("expected *, ranges such as 0-99,105 or b64: and base64")
    members, lowest = 0, 0
    for part in text.split(","):
        first_text, _, last_text = part.partition("-")
        first, last = int(first_text), int(last_text or first_text)
        if first < lowest or last < first:
            raise MembersError("ranges ascend and do not overlap")
        if last >= MAX_SLOTS:
            raise MembersError(f"slots are numbers from 0 to {MAX_SLOTS - 1}")
        members |= everyone(last - first + 1) << first
        lowest = last + 1
    return members


def _parse_bits(text: str) -> int:
    if len(text) > MAX_SLOTS // 6 + 4:
        raise MembersError(f"slots are numbers from 0 to {MAX_SLOTS - 1}")
    try:
        return int.from_bytes(base64.b64decode(text, validate=True), "little")
    except (binascii.Error, ValueError):
        raise MembersError("what follows b64: is not base64") from None


def _validate(value: object) -> int:
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise MembersError("expected a set of slots: its text, or the non-negative integer of its bits")


_DESCRIPTION: Final = "a set of slots: ranges such as 0-99,105 or b64: and base64 of the bits, lowest byte first"

Members = Annotated[
    int,
    PlainValidator(_validate),
    PlainSerializer(shortest, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "description": _DESCRIPTION}),
]
"""A set of slots in a model: an integer in Python, in JSON its text (never `*`, which would need the size)."""
