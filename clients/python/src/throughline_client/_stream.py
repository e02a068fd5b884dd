"""Reads the stream of what happens (Server-Sent Events), and goes on where it broke off."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ._calls import AsyncCaller, Caller, pause
from ._errors import error_of

PATH = "/v1/stream"
SILENCE = 60.0
"""Seconds without a heartbeat after which the connection is taken for dead: the API sends one every 15."""


@dataclass(frozen=True)
class StreamEvent:
    """Something that happened, or how far something is."""

    id: "str | None"
    """Where to go on after it: give it as `last_event_id`. None for what is only of the moment, such as progress."""
    type: str
    data: Any


class Frames:
    """Takes the stream line by line, and gives an event when it is whole."""

    def __init__(self, last_event_id: "str | None") -> None:
        """Begin behind `last_event_id`."""
        self.last_event_id = last_event_id
        self.retry: float | None = None
        """Seconds that the API asks to wait before coming again."""
        self._id: str | None = None
        self._type = ""
        self._data: list[str] = []

    def begin(self) -> None:
        """Forget what a broken connection left unfinished: it comes again."""
        self._data, self._type, self._id = [], "", None

    def line(self, text: str) -> "StreamEvent | None":
        """Take a line; return the event that it ends."""
        if text == "":
            return self._whole()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id":
            self._id = value
        elif name == "retry" and value.isdigit():
            self.retry = int(value) / 1000
        return None

    def _whole(self) -> "StreamEvent | None":
        data, kind, at = "\n".join(self._data), self._type, self._id
        self.begin()
        if at is not None:
            self.last_event_id = at
        if not data:
            return None
        try:
            return StreamEvent(at, kind or "message", json.loads(data))
        except ValueError:
            return StreamEvent(at, kind or "message", data)


def _asked(types: "Sequence[str] | None", subject: "str | None", progress: "Sequence[str] | None") -> "dict[str, str]":
    given = {
        "types": ",".join(types) if types else None,
        "subject": subject,
        "progress": ",".join(progress) if progress else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _headers(frames: Frames) -> "Mapping[str, str]":
    seen = {} if frames.last_event_id is None else {"last-event-id": frames.last_event_id}
    return {"accept": "text/event-stream", **seen}


_TIMEOUT = httpx.Timeout(10.0, read=SILENCE)


def listen(
    caller: Caller,
    *,
    types: "Sequence[str] | None" = None,
    subject: "str | None" = None,
    progress: "Sequence[str] | None" = None,
    last_event_id: "str | None" = None,
) -> Iterator[StreamEvent]:
    """Yield what happens, for as long as somebody asks; a connection that breaks is made again where it broke."""
    frames, attempt = Frames(last_event_id), 0
    asked = _asked(types, subject, progress)
    while True:
        response = None
        frames.begin()
        try:
            with caller.http.stream("GET", PATH, params=asked, headers=_headers(frames), timeout=_TIMEOUT) as response:
                if not response.is_success:
                    response.read()
                    if response.status_code < 500 and response.status_code != 429:
                        raise error_of(response)
                else:
                    for text in response.iter_lines():
                        attempt = 0
                        event = frames.line(text)
                        if event is not None:
                            yield event
        except httpx.TransportError:
            pass
        time.sleep(frames.retry if attempt == 0 and frames.retry is not None else pause(attempt, response))
        attempt = min(attempt + 1, 8)


async def listen_async(
    caller: AsyncCaller,
    *,
    types: "Sequence[str] | None" = None,
    subject: "str | None" = None,
    progress: "Sequence[str] | None" = None,
    last_event_id: "str | None" = None,
) -> AsyncIterator[StreamEvent]:
    """As `listen`."""
    frames, attempt = Frames(last_event_id), 0
    asked = _asked(types, subject, progress)
    while True:
        response = None
        frames.begin()
        try:
            async with caller.http.stream(
                "GET", PATH, params=asked, headers=_headers(frames), timeout=_TIMEOUT
            ) as response:
                if not response.is_success:
                    await response.aread()
                    if response.status_code < 500 and response.status_code != 429:
                        raise error_of(response)
                else:
                    async for text in response.aiter_lines():
                        attempt = 0
                        event = frames.line(text)
                        if event is not None:
                            yield event
        except httpx.TransportError:
            pass
        await asyncio.sleep(frames.retry if attempt == 0 and frames.retry is not None else pause(attempt, response))
        attempt = min(attempt + 1, 8)
