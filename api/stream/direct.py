"""Sending without a task: a message that the connection takes at once costs a plain call.

Waking a task for each of a thousand listeners takes longer than writing to their sockets. An ASGI server's `send` waits
only where the connection's buffer is full, so it is run as far as it goes; what is left of it is for the task that owns
the connection to finish.

Behind uvicorn's usual protocol even that is spared: of its answer's coroutines all that counts is one write of a chunk,
the same for all listeners. Whether the connection is ours to write to is asked of the same fields that uvicorn asks.
"""

from collections.abc import Generator
from typing import Any, Final

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from services.events.stream.listening import StreamEvent

SERVERS: Final = "servers_send"
"""Names, in a request's state, the server's own `send`, beneath all that is around it."""


class Direct:
    """Writes messages of one answer, from whichever task."""

    __slots__ = ("_cycle", "_left", "_send", "told")

    def __init__(self, send: Send, servers: Send | None) -> None:
        """Take the `send` of an answer that has been started, and the server's own beneath all that is around it."""
        self._send: Final = servers or send
        cycle: Any = getattr(servers, "__self__", None)
        self._cycle = cycle if isinstance(cycle, RequestResponseCycle) and cycle.chunked_encoding else None
        self._left: _Left | None = None
        self.told = False
        """Whether anything was written since somebody last looked and said no."""

    @property
    def plain(self) -> bool:
        """Whether events are written without a coroutine."""
        return self._cycle is not None

    def tell(self, event: StreamEvent) -> bool:
        """Send an event; return whether the connection took it. If not, nothing else may be sent before `finish`."""
        cycle = self._cycle
        if cycle is None or cycle.flow.write_paused or cycle.disconnected or cycle.response_complete:
            return self.write(event.frame)
        self.told = True
        cycle.transport.write(event.chunk)
        return True

    def write(self, body: bytes) -> bool:
        """Send anything, as `tell` does."""
        self.told = True
        steps: Generator[Any, Any, None] = self._send(_part(body)).__await__()  # pyright: ignore[reportAssignmentType]  # a coroutine's are
        try:
            waits_for = next(steps)
        except StopIteration:
            return True
        self._left = _Left(steps, waits_for)
        return False

    async def send(self, body: bytes) -> None:
        """Send a part of the answer, and wait until there is room for it; from the task that owns the connection."""
        self.told = True
        await self._send(_part(body))

    async def finish(self) -> None:
        """Wait until the connection has taken what it had no room for."""
        if self._left is not None:
            left, self._left = self._left, None
            await left


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


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
