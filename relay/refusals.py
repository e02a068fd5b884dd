"""What Temporal will not have: left alone for a growing while, so that it neither holds up others nor is hammered."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from temporalio.service import RPCError, RPCStatusCode

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 600.0

_OUTAGE: Final = frozenset(
    {
        RPCStatusCode.CANCELLED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.NOT_FOUND,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.UNAVAILABLE,
    }
)
"""Says nothing about what was asked for: the server, its namespace or our right to it is missing."""

Key = TypeVar("Key", bound=Hashable)


def is_outage(error: BaseException) -> bool:
    """Return whether an error of the client would meet whatever else was asked for now."""
    if isinstance(error, RPCError):
        return error.status in _OUTAGE
    return isinstance(error, OSError | TimeoutError)


@dataclass(slots=True)
class _Pause:
    until: float
    seconds: float


class Refusals(Generic[Key]):
    """Remembers what was refused, in this process alone: after a restart all is tried again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing; `clock` counts seconds."""
        self._clock = clock
        self._pauses: dict[Key, _Pause] = {}

    def add(self, key: Key) -> float:
        """Leave this alone, twice as long as the last time; return for how many seconds."""
        last = self._pauses.get(key)
        seconds = FIRST_PAUSE if last is None else min(last.seconds * 2, LONGEST_PAUSE)
        self._pauses[key] = _Pause(self._clock() + seconds, seconds)
        return seconds

    def held(self) -> list[Key]:
        """Return what is to be left alone now."""
        now = self._clock()
        # what was not refused again for so long is no longer there
        self._pauses = {key: pause for key, pause in self._pauses.items() if now < pause.until + LONGEST_PAUSE}
        return [key for key, pause in self._pauses.items() if now < pause.until]
