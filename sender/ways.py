"""Whether anybody answers at the other end: while nobody does, one page at a time tries, and all others wait.

So an outage of one provider holds up nothing that goes by another, even where each try takes as long as an answer may.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from core.logging import get_logger
from integrations.email.port import UnreachableError

_LONGEST = 8
"""Times the first pause, that a try is waited for at most; longer only where the try itself took longer."""

_log = get_logger(__name__)


@dataclass(slots=True)
class Way:
    """One provider's mail server or API, as this process finds it."""

    name: str
    """For people who read logs."""
    pause: float
    """Seconds that nothing is tried after it was first found down; twice as long after each further try."""
    clock: Callable[[], float] = time.monotonic
    """Counts seconds."""
    why: str = ""
    """What was said or seen when it was last found down."""
    _down_since: float | None = None
    _until: float = 0.0
    _next_pause: float = field(default=0.0)
    _trying: bool = False

    def wait(self) -> float:
        """Return for how many seconds nothing is to be tried; 0 where it may be now."""
        if self._down_since is None:
            return 0.0
        left = self._until - self.clock()
        if left > 0:
            return left
        return self.pause if self._trying else 0.0

    def begin(self) -> float:
        """Note that a page is about to be tried; return the moment, for `lost`."""
        self._trying = self._down_since is not None
        return self.clock()

    def lost(self, began: float, error: UnreachableError) -> None:
        """Note that nobody answers."""
        now = self.clock()
        self._trying = False
        self.why = str(error)
        if self._down_since is None:
            self._down_since, self._next_pause = now, self.pause
        elif now < self._until:
            return  # begun before it was known, by a page beside the one that found out
        # A try that takes a minute is not made every other second.
        pause = max(self._next_pause, now - began)
        self._until = now + pause
        self._next_pause = min(self._next_pause * 2, self.pause * _LONGEST)
        _log.warning(
            "channel_unreachable",
            channel=self.name,
            retry_in=round(pause, 1),
            down_for=round(now - self._down_since, 1),
            error=self.why,
        )

    def ended(self, *, answered: bool) -> None:
        """Note that a page came to its end; `answered` where anybody answered to any of it."""
        self._trying = False
        if answered and self._down_since is not None:
            _log.info("channel_reachable", channel=self.name, down_for=round(self.clock() - self._down_since, 1))
            self._down_since = None
