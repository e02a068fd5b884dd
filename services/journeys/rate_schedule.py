"""When how many may pass a node that limits a rate, given who has passed lately. Pure arithmetic."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final

from journeys.pacing import Rate

MOST_MOMENTS: Final = 48
"""Different times that one look at a line answers: each is a timer, and a group of members in a workflow."""
_MOST_IN_WINDOW: Final = 16
_SLACK: Final = 0.02
"""Of the window: planned so much longer, so that those who pass a little late do not make the next look in vain."""
_MOST_SLACK: Final = timedelta(seconds=1)
_SOON: Final = timedelta(milliseconds=100)
"""Nobody is told to look again sooner: clocks of different machines differ."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each in line may pass, counted from 0.

    The n-th may at the first moment whose capacity is above n % count, and n // count cycles later.
    """

    free: int
    """How many may pass now."""
    capacities: Sequence[int]
    """How many in all at each moment; the last is the rate's count."""
    moments: Sequence[datetime]
    cycle: timedelta
    horizon: int
    """Who would have to wait more cycles looks again after so many."""
    soonest: datetime

    def turn_of(self, rank: int) -> datetime:
        """Return when one of this rank may pass, whatever the horizon."""
        cycles, place = divmod(rank, self.capacities[-1])
        return self.moments[bisect_right(self.capacities, place)] + cycles * self.cycle

    def parameters(self) -> dict[str, Any]:
        """Return what a statement over the line needs."""
        slack = self.cycle * _SLACK
        return {
            "capacities": list(self.capacities),
            "moments": list(self.moments),
            "cycle": self.cycle,
            "horizon": self.horizon,
            "late": max(2 * slack, timedelta(milliseconds=250)),
        }


def schedule(rate: Rate, passed: Sequence[tuple[datetime, int]], now: datetime) -> Schedule:
    """Return the schedule.

    Args:
        rate: The rate.
        passed: Within the last window: when, oldest first, and how many.
        now: The store's time.
    """
    used = sum(count for _, count in passed)
    freed = [(now, rate.count - used)]
    freed += [(at + rate.per, count) for at, count in passed]
    totals = list(accumulate(count for _, count in freed))
    found = [(total, at) for total, (at, _) in zip(totals, freed, strict=True) if total > 0]
    # A rate that was lowered lets nobody on at some of these moments, one that many share has very many.
    step = max(1, rate.count // _MOST_IN_WINDOW)
    kept: list[tuple[int, datetime]] = []
    for total, at in reversed(found):
        if not kept or kept[-1][0] - total >= step or at == now:
            kept.append((total, at))
    kept.reverse()
    return Schedule(
        free=max(0, rate.count - used),
        capacities=[total for total, _ in kept],
        moments=[at for _, at in kept],
        cycle=rate.per + min(rate.per * _SLACK, _MOST_SLACK),
        horizon=max(1, MOST_MOMENTS // len(kept)),
        soonest=now + _SOON,
    )
