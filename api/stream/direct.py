"""Sending without a task: a message that the connection takes at once costs a plain call.

Waking a task for each of a thousand listeners takes longer than writing to their sockets. An ASGI server's `send` waits
only where the connection's buffer is full, so it is run as far as it goes; what is left of it is for the task that owns
the connection to finish.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final

from starlette.types import Send


class Direct:
    """Writes messages of one answer, from whichever task."""

    __slots__ = ("_left", "_send", "told")

    def __init__(self, send: Send) -> None:
        """Take the `send` of an answer that has been started."""
        self._send: Final = send
        self._left: _Left | None = None
        self.told = False
        """Whether anything was written since somebody last looked and said no."""

    def write(self, message: Mapping[str, Any]) -> bool:
        """Send a message; return whether the connection took it. If not, nothing else may be sent before `finish`."""
        self.told = True
        steps: Generator[Any, Any, None] = self._send(message).__await__()  # pyright: ignore[reportArgumentType, reportAssignmentType]  # a message is only read
        try:
            waits_for = next(steps)
        except StopIteration:
            return True
        self._left = _Left(steps, waits_for)
        return False

    async def send(self, body: bytes) -> None:
        """Send a part of the answer, and wait until there is room for it; from the task that owns the connection."""
        self.told = True
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self) -> None:
        """Wait until the connection has taken what it had no room for."""
        if self._left is not None:
            left, self._left = self._left, None
            await left


class _Left:
    """The rest of a coroutine that was begun elsewhere and waits for something."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: Generator[Any, Any, None], waits_for: object) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._waits_for
        except BaseException:
            self._steps.close()
            raise
        yield from self._steps
