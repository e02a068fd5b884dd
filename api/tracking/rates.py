"""How much one caller may send: a token bucket for each, in this process."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Address

from core.errors import TooManyRequestsError

CAPACITY: Final = 20_000
"""Callers remembered at most; who was seen longest ago starts with a full bucket again."""


def network_of(client: Address | None) -> str:
    """Return what a caller is counted by: its IPv4 address, or the /64 of IPv6, of which one caller has every address.

    What is no address of either stands for itself.
    """
    host = client.host if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


class Buckets:
    """Lets each caller have `rate` requests a second in the long run, and `burst` at once."""

    def __init__(self, *, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            TooManyRequestsError: the caller's bucket is empty.
        """
        now = self._clock()
        left, at = self._buckets.get(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        if left < 1:
            self._buckets[caller] = (left, now)
            raise TooManyRequestsError(
                "There were too many requests from here; try again in a moment.",
                retry_after=math.ceil((1 - left) / self._rate),
            )
        self._buckets[caller] = (left - 1, now)
        self._buckets.move_to_end(caller)
        if len(self._buckets) > CAPACITY:
            self._buckets.popitem(last=False)
