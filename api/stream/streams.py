"""The streams that this process serves: signs of life, keys that are revoked meanwhile, and the end of all."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from api.authentication import Authenticator
from api.stream.serving import EventStream
from core.errors import UnauthorizedError
from core.logging import get_logger
from services.events.stream.hub import Hub

HEARTBEAT_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 5.0
"""How often it is asked whether a key still holds; what the `Authenticator` remembers comes on top of it."""
TICK_SECONDS: Final = 1.0
SCOPE: Final = "events:read"

_log = get_logger(__name__)


class Streams:
    """Looks after open streams."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        """Take who tells, and who knows the keys."""
        self._hub = hub
        self._authenticator = authenticator
        self.use_clock(time.monotonic)
        self.open: dict[EventStream, None] = {}
        """Those that are served now."""
        self._task: asyncio.Task[None] | None = None

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Go by this clock, which gives seconds."""
        self._clock = clock
        self._beaten = self._checked = clock()

    @contextmanager
    def keeping(self, stream: EventStream) -> Generator[None]:
        """Look after a stream while the block runs."""
        self.open[stream] = None
        if self._task is None:
            self._task = asyncio.create_task(self._look_after(), name="streams")
        try:
            yield
        finally:
            del self.open[stream]

    async def look(self) -> None:
        """Do what is due by the clock."""
        now = self._clock()
        if now - self._beaten >= HEARTBEAT_SECONDS:
            self._beaten = now
            for stream in tuple(self.open):
                stream.beat()
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            for authorization in {stream.authorization for stream in self.open}:
                if not await self._holds(authorization):
                    for stream in tuple(self.open):
                        if stream.authorization == authorization:
                            stream.end("unauthorized")

    async def _holds(self, authorization: str) -> bool:
        try:
            await self._authenticator.look_again(authorization, (SCOPE,))
        except UnauthorizedError:
            return False
        return True

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                _log.warning("streams_unkept", exc_info=error)

    def end(self) -> None:
        """End all streams, as the process is about to end: their clients come back elsewhere. From the event loop."""
        self._hub.end("shutdown")
        for stream in tuple(self.open):
            stream.end("shutdown")

    async def close(self) -> None:
        """End all and stop looking."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
