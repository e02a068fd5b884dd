"""How a sender paces itself."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """Times and sizes; tests shorten them."""

    pages: int = 4
    """Pages worked on at once: while one waits for answers another is written."""
    lease: timedelta = timedelta(seconds=60)
    """How long a page stays a sender's that does not prolong it; it does so three times as often."""
    margin: timedelta = timedelta(seconds=10)
    """No mail is begun when less than this is left of the lease."""
    poll_seconds: float = 1.0
    """How late a page is seen whose notification was lost."""
    pauses: tuple[timedelta, ...] = (
        timedelta(seconds=15),
        timedelta(minutes=1),
        timedelta(minutes=5),
        timedelta(minutes=15),
        timedelta(hours=1),
        timedelta(hours=3),
    )
    """How long mail refused for now waits before each further try; the last repeats."""
    give_up_after: timedelta = timedelta(hours=24)
    """Mail still refused for now after trying for this long has failed. How long ago it was queued says nothing: an
    audience may be frozen a month ahead, and a campaign paused for a week."""
    unreachable_pause: timedelta = timedelta(seconds=2)
    """How long nothing is sent after a channel could not be reached, at first."""
    failure_pause: timedelta = timedelta(seconds=5)
    """How long a page rests on which the sender itself failed."""
    patience_at_stop: timedelta = timedelta(seconds=10)
    """How long a stopping sender tries to record what it did; its journal keeps it otherwise."""

    def gives_up(self, attempts: int) -> bool:
        """Return whether mail refused for now has failed, after so many tries before the present one."""
        return sum((self.pause(each) for each in range(attempts)), timedelta()) >= self.give_up_after

    def pause(self, attempts: int) -> timedelta:
        """Return how long to wait after so many tries before the present one."""
        return self.pauses[min(attempts, len(self.pauses) - 1)]
