"""What the store said, believed for some seconds: of more than fit, the one unused longest goes first.

A change made in this process holds here once it is committed and forgotten, and elsewhere when the time is over.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Answers to one kind of question."""

    def __init__(self, capacity: int) -> None:
        """Hold so many answers at most."""
        self._capacity = capacity
        self._answers: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._changes = 0

    def get(self, key: Key) -> Value | None:
        """Return what is believed, if anything is."""
        found = self._answers.get(key)
        if found is None or found[0] <= time.monotonic():
            return None
        self._answers.move_to_end(key)
        return found[1]

    async def ask(self, key: Key, look_up: Callable[[], Awaitable[tuple[Value, float] | None]]) -> Value | None:
        """Return what is believed, or ask: `look_up` returns the answer and for how many seconds it holds.

        What is forgotten while it looks may be what it found, so it looks again. None is not remembered.
        """
        known = self.get(key)
        while known is None:
            began, changes = time.monotonic(), self._changes
            found = await look_up()
            if changes != self._changes:
                continue
            if found is None:
                self._answers.pop(key, None)
                return None
            known, seconds = found
            self._answers[key] = (began + seconds, known)
            self._answers.move_to_end(key)  # one that was there kept its old place
            if len(self._answers) > self._capacity:
                self._answers.popitem(last=False)
        return known

    def forget(self, *keys: Key) -> None:
        """Ask about these anew; call it when their change is committed."""
        self._changes += 1
        for key in keys:
            self._answers.pop(key, None)

    def forget_where(self, holds: Callable[[Value], bool]) -> None:
        """Ask anew about those whose answers are such."""
        self.forget(*[key for key, (_, value) in self._answers.items() if holds(value)])
