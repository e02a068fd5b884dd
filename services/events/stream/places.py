"""Places on the bus as text that a listener keeps: the `id` of each event it is told.

A place is the cursor behind an event: the snapshot seen before its delta, the delta's target and the event's position.
It is packed, as it travels with every event, and signed, as a made-up one would have us read the bus from anywhere.
"""

from collections.abc import Iterable, Iterator

from core.tokens import BadTokenError, Tokens
from services.events.reading import Cursor

_MORE = 0x80
_BITS = 7


class Places:
    """Writes and reads places under the deployment's secret."""

    def __init__(self, tokens: Tokens) -> None:
        """Take what signs."""
        self._tokens = tokens

    def token(self, cursor: Cursor) -> str:
        """Return the token of a place."""
        numbers = [cursor.position or 0, *_numbers(cursor.seen)]
        if cursor.target is not None:
            numbers += _numbers(cursor.target)
        return self._tokens.stream(_packed(numbers))

    def read(self, token: str) -> Cursor:
        """Return the place that a token names.

        Raises:
            BadTokenError: this deployment did not write it.
        """
        try:
            numbers = _unpacked(self._tokens.read_stream(token))
            position = next(numbers)
            seen = _snapshot(numbers)
        except ValueError as error:  # of letters that are not ASCII
            raise BadTokenError from error
        rest = list(numbers)
        return Cursor(seen, _snapshot(iter(rest)) if rest else None, position)


def _numbers(snapshot: str) -> list[int]:
    """Return a snapshot as small numbers: xmin, how far xmax is from it, and the steps between those in progress."""
    low, high, open_ones = snapshot.split(":")
    xmin = int(low)
    between = [int(each) for each in open_ones.split(",") if each]
    return [xmin, int(high) - xmin, len(between), *(b - a for a, b in zip([xmin, *between], between, strict=False))]


def _snapshot(numbers: Iterator[int]) -> str:
    xmin = next(numbers)
    xmax = xmin + next(numbers)
    between: list[int] = []
    for _ in range(next(numbers)):
        between.append((between[-1] if between else xmin) + next(numbers))
    return f"{xmin}:{xmax}:{','.join(map(str, between))}"


def _packed(numbers: Iterable[int]) -> bytes:
    """Return numbers in base 128, the last byte of each without the high bit."""
    packed = bytearray()
    for number in numbers:
        left = number
        while left >= _MORE:
            packed.append((left & (_MORE - 1)) | _MORE)
            left >>= _BITS
        packed.append(left)
    return bytes(packed)


def _unpacked(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & (_MORE - 1)) << shift
        shift += _BITS
        if byte < _MORE:
            yield number
            number = shift = 0
