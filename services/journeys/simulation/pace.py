"""Letting passages on at a limited rate on the virtual clock: never more than so many in any stretch of so long."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from journeys import members as member_sets
from journeys.pacing import Rate


@dataclass(slots=True)
class Pace:
    """Who waits at a node that limits, and when the last were let on."""

    rate: Rate
    waiting: int = 0
    """Who has a time at which to go on."""
    _let_on: deque[tuple[datetime, int]] = field(default_factory=deque[tuple[datetime, int]])
    """When the last `rate.count` were, or will be, let on: moments with how many, in their order."""

    def take(self, members: int, now: datetime) -> tuple[int, dict[datetime, int]]:
        """Return who goes on now, and until when the others wait; those who waited are due."""
        going = members & self.waiting
        self.waiting &= ~going
        later: dict[datetime, int] = {}
        slots = member_sets.slots(members & ~going)
        taken = 0
        while taken < len(slots):
            at, room = self._next(now)
            those = member_sets.from_slots(slots[taken : taken + room])
            number = min(room, len(slots) - taken)
            taken += number
            self._note(at, number)
            if at <= now:
                going |= those
            else:
                later[at] = later.get(at, 0) | those
                self.waiting |= those
        return going, later

    def _next(self, now: datetime) -> tuple[datetime, int]:
        """Return when the next may be let on, and how many at that moment."""
        last = max(now, self._let_on[-1][0]) if self._let_on else now
        room = self.rate.count - sum(number for _, number in self._let_on)
        if room > 0:
            return last, room
        first, number = self._let_on[0]
        return max(last, first + self.rate.per), number

    def _note(self, at: datetime, number: int) -> None:
        self._let_on.append((at, number))
        over = sum(number for _, number in self._let_on) - self.rate.count
        while over > 0:
            first, many = self._let_on.popleft()
            if many > over:
                self._let_on.appendleft((first, many - over))
            over -= many
