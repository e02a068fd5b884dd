"""Somebody's HTTP server, to which things are posted."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def answering(status: bytes, *headers: bytes) -> bytes:
    """Return an answer without a body."""
    lines = (b"HTTP/1.1 " + status, *headers, b"Content-Length: 0", b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


@dataclass(slots=True)
class Receiver:
    """What was posted, and how it is answered."""

    url: str = ""
    answer: bytes = OK
    refuses: Callable[[dict[str, Any]], bool] = lambda _: False
    """Of a body: whether it is answered by 500 instead."""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list[tuple[dict[str, str], bytes]])
    at_once: int = 0
    most_at_once: int = 0

    def bodies(self) -> list[dict[str, Any]]:
        """Return what was posted, as JSON, in order."""
        return [json.loads(body) for _, body in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.requests.append((headers, body))
        await asyncio.sleep(0)
        writer.write(answering(b"500 Broken") if self.refuses(json.loads(body)) else self.answer)
        await writer.drain()
        writer.close()
        self.at_once -= 1


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """Run one on a free port."""
    receiver = Receiver()
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0) as server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield receiver
