"""One stream: an answer that goes on as long as whoever asked listens."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, aclosing, suppress
from typing import Final
from uuid import UUID

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from api.routing import EVENT_STREAM
from api.stream.direct import SERVERS, Direct
from api.stream.progress import Figures, Progress, Thing
from core.errors import UnavailableError
from services.events.reading import Cursor
from services.events.stream.hub import Hub
from services.events.stream.listening import Listener, PlaceLostError, StreamEvent, Wanted

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
RETRY_MS: Final = (1_000, 3_000)
"""When a client is to come back whose stream broke: not all at once."""
STUCK_SECONDS: Final = 60.0
"""A connection that takes nothing for so long is given up."""
END_SECONDS: Final = 5.0
"""The same for the last word."""
PART: Final = 65_536
"""Bytes sent at once."""
GONE: Final = "gone"
"""Whoever listened has closed the connection."""
CAUGHT_UP: Final = "caught_up"


def frame(event: str, data: Mapping[str, object], *, token: str | None = None) -> bytes:
    """Return a frame of ours as server-sent events have it."""
    place = "" if token is None else f"id: {token}\n"
    return f"{place}event: {event}\ndata: {json.dumps(data)}\n\n".encode()


class EventStream(Response):
    """Answers with the events that a listener is told, and with progress of what it watches."""

    media_type = EVENT_STREAM

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        hub: Hub,
        progress: Progress,
        tenant_id: UUID,
        wanted: Wanted,
        *,
        after: Cursor | None,
        watched: tuple[Thing, ...] = (),
        follow: bool = True,
        keeping: "Callable[[EventStream], AbstractContextManager[None]]",
        authorization: str,
    ) -> None:
        super().__init__()
        self._hub = hub
        self._progress = progress
        self._tenant_id = tenant_id
        self._wanted = wanted
        self._after = after
        self._watched = watched
        self._follow = follow
        self._keeping = keeping
        self._news: dict[Thing, bytes] = {}
        self._direct: Direct | None = None
        self._listener: Listener | None = None
        self._patience: asyncio.Timeout | None = None
        self.authorization: Final = authorization
        """The header that opened it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the client goes, or the stream is ended."""
        with ExitStack() as leaving:
            self._listener = leaving.enter_context(self._hub.listening(self._tenant_id, self._wanted, self._after))
            for thing in () if self._follow else self._watched:
                self._note(thing, await self._progress.look(self._tenant_id, thing))
            for thing in self._watched if self._follow else ():
                leaving.enter_context(self._progress.watching(self._tenant_id, thing, self._note))
            await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
            direct = self._direct = Direct(send, scope["state"].get(SERVERS))
            self._listener.write_by(direct.tell)
            leaving.enter_context(self._keeping(self))
            waiting = asyncio.create_task(_gone(receive, self._listener), name="stream-gone")
            leaving.callback(waiting.cancel)
            try:
                await self._serve(self._listener, direct)
            except UnavailableError:
                self._listener.end("unavailable")
            if self._listener.ended != GONE:
                body = frame("end", {"reason": self._listener.ended})
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _serve(self, listener: Listener, direct: Direct) -> None:
        opened = False
        while listener.ended is None:
            try:
                async with aclosing(listener.batches()) as batches:
                    async for batch in batches:
                        for part in _parts(batch):
                            await self._send(direct, part)
                        if not batch:
                            await self._send(direct, b"" if opened else self._opening(listener))
                            opened = True
                        if not batch and not self._follow:
                            listener.end(CAUGHT_UP)
            except PlaceLostError as lost:
                listener.cursor = None
                opened = False
                await self._send(direct, frame("reset", {"reason": lost.detail}))

    async def _send(self, direct: Direct, body: bytes) -> None:
        """Send what the connection had no room for, this, and what is new of progress."""
        try:
            async with asyncio.timeout(STUCK_SECONDS) as self._patience:
                await direct.finish()
                if body:
                    await direct.send(body)
                while self._news:
                    await direct.send(self._news.pop(next(iter(self._news))))
        except TimeoutError:
            self.end(GONE)
        finally:
            self._patience = None

    def _opening(self, listener: Listener) -> bytes:
        """Say where the stream stands before its first event, and when to come back."""
        place = "" if listener.cursor is None else f"id: {self._hub.token_of(listener.cursor)}\n"
        return f"retry: {random.randint(*RETRY_MS)}\n{place}\n".encode()  # noqa: S311 - not a secret

    def _note(self, thing: Thing, figures: Figures) -> None:
        """Tell how far something has come: at once, or of a slow client's the newest when it has time."""
        self._news[thing] = frame("progress", figures)
        if self._listener is not None and self._listener.resting:
            self._listener.wake()

    def beat(self) -> None:
        """Send a sign of life, if nothing else was sent since the last look; with it, where the stream stands."""
        direct, listener = self._direct, self._listener
        if direct is None or listener is None:
            return
        if direct.told or not listener.resting:
            direct.told = False
            return
        token = self._hub.token()
        body = b":\n\n" if token is None else f":\nid: {token}\n\n".encode()
        if not direct.write(body):
            listener.wake()
        direct.told = False

    @property
    def plain(self) -> bool:
        """Whether its events are written without a coroutine."""
        return self._direct is not None and self._direct.plain

    def end(self, reason: str) -> None:
        """Have it end, saying why."""
        if self._listener is not None:
            self._listener.end(reason)
        if self._patience is not None:  # it waits for a slow client
            self._patience.reschedule(asyncio.get_running_loop().time() + END_SECONDS)


def _parts(batch: list[StreamEvent]) -> Iterator[bytes]:
    """Return the frames joined, as many as a connection takes at once."""
    frames: list[bytes] = []
    size = 0
    for event in batch:
        frames.append(event.frame)
        size += len(event.frame)
        if size >= PART:
            yield b"".join(frames)
            frames, size = [], 0
    if frames:
        yield b"".join(frames)


async def _gone(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end(GONE)
