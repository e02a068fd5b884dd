"""`python -m bench.loader`: posts to a server over kept connections, as cheaply as Python can.

Each line on its input is a `Load` in JSON; for each it prints how many were answered a second. Requests are made
beforehand and an answer is read no further than its status and its length.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Final, cast

import uvloop
from pydantic import BaseModel

_LENGTH: Final = b"content-length:"


class Load(BaseModel):
    """What to post, where, and for how long."""

    port: int
    path: str
    secret: str
    bodies: list[str]
    """Posted in turns."""
    connections: int
    seconds: float


class _Connection(asyncio.Protocol):
    """One request after another until the time is over."""

    def __init__(self, requests: Iterator[bytes], ends: float) -> None:
        self._requests = requests
        self._ends = ends
        self._read = b""
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._read += data
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._read[:end].lower()
        start = head.index(_LENGTH) + len(_LENGTH)
        if len(self._read) < end + 4 + int(head[start:].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"http/1.1 202"):
            self._fail(RuntimeError(self._read.decode(errors="replace")))
            return
        self._read = b""
        self.answered += 1
        if time.perf_counter() < self._ends:
            self._transport.write(next(self._requests))
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the server hung up"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def close(self) -> None:
        self._transport.close()


async def posted(load: Load) -> float:
    """Return how many requests a second were answered."""
    requests = cycle([_request(load, body.encode()) for body in load.bodies])
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    ends = began + load.seconds
    connections = [
        (await loop.create_connection(lambda: _Connection(requests, ends), "127.0.0.1", load.port))[1]
        for _ in range(load.connections)
    ]
    await asyncio.gather(*(each.done for each in connections))
    took = time.perf_counter() - began
    for each in connections:
        each.close()
    return sum(each.answered for each in connections) / took


def _request(load: Load, body: bytes) -> bytes:
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {load.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def main() -> None:
    """Work through the lines of the input."""
    for line in sys.stdin:
        sys.stdout.write(f"{await posted(Load.model_validate_json(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
