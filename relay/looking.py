"""Looks at large deltas, shared by the consumers of a relay: mostly they all stand at one place, and want few types.

What a snapshot shows that another does not is the same whoever asks, and whenever. So one look at it serves all.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from relay import delta

KEPT: Final = 4
"""So many looks are remembered."""
FRESH_SECONDS: Final = 2.0
"""For so long a look serves who has yet to begin its delta: a newer one would show more."""


@dataclass(frozen=True, slots=True)
class _Look:
    seen: str
    target: str
    position: int | None
    """Behind which it begins; None: at the delta's beginning."""
    ahead: delta.Ahead
    at: float
    """When, by the monotonic clock."""

    def serves(self, standing: delta.Standing) -> bool:
        """Whether it covers what comes next there."""
        here = standing.cursor
        if here.seen != self.seen:
            return False
        if here.target is None:
            return self.position is None and time.monotonic() - self.at < FRESH_SECONDS
        if here.target != self.target or here.position is None:
            return False
        begun = self.position is None or self.position <= here.position
        return begun and (self.ahead.until is None or here.position < self.ahead.until)


class Looks:
    """The last looks of one relay."""

    def __init__(self) -> None:
        """Begin without any."""
        self._last: deque[_Look] = deque(maxlen=KEPT)
        self._looking = asyncio.Lock()

    async def ahead(self, session: AsyncSession, standing: delta.Standing) -> tuple[str, delta.Ahead]:
        """Return the snapshot up to which the next events are to be read, and of what types they are.

        It may be an earlier one than the standing's. More types may be named than are still ahead.
        """
        async with self._looking:
            look = next((look for look in self._last if look.serves(standing)), None)
            if look is None:
                here = standing.cursor
                found = await delta.look(session, standing)
                # Without a target a position is just where the bus was.
                behind = None if here.target is None else here.position
                look = _Look(here.seen, here.target or standing.now, behind, found, time.monotonic())
                self._last.appendleft(look)
            return look.target, look.ahead
