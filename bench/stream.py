"""`stream`: an event posted until the last of 1,000 listeners has it, against one listener.

One API serves both: the one and the thousand are of two tenants, to which events are posted in turns. The listeners are
bare sockets in processes of their own.

Beside them a bare loop writes as much to a thousand such listeners: what the kernel takes for it is the floor, and what
the last of the thousand waits longer than the one is held against that.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from bench.harness import FULL, Ratio, Report, Servers, tenant
from bench.reading import Store, served
from core.actor import CLI
from services.tenancy import api_keys

LISTENERS = 1_000
EVENTS = 400 if FULL else 150
WARMING = 20
GAP_SECONDS = 0.05
BODY = json.dumps({"type": "page.viewed", "person": {"email": "ann@bench.example"}, "properties": {"path": "/pricing"}})
_LISTENING = Path(__file__).with_name("listeners.py")
_WRITING = Path(__file__).with_name("bare_writer.py")


@dataclass(slots=True)
class Told:
    """Listeners, and who tells them."""

    writing: asyncio.StreamWriter
    """Where `message` has each listener told of something."""
    message: bytes
    listeners: asyncio.StreamReader
    """What they say."""
    answering: asyncio.StreamReader | None = None
    """What answers a message, where it is a request."""
    seconds: list[float] = field(default_factory=list[float])

    async def tell(self) -> None:
        """Have them told, and note how long it took until the last had it."""
        began = time.perf_counter()
        self.writing.write(self.message)
        heard = float(await self.listeners.readline())
        self.seconds.append(heard - began)
        if self.answering is not None:
            answer = await self.answering.readuntil(b"}")
            assert answer.startswith(b"HTTP/1.1 202"), answer
        await asyncio.sleep(GAP_SECONDS)


def _milliseconds(seconds: list[float]) -> str:
    tenths = statistics.quantiles(seconds, n=10)
    return f"{tenths[4] * 1_000:.1f} ({tenths[0] * 1_000:.1f} to {tenths[8] * 1_000:.1f})"


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    async with AsyncExitStack() as cleanup:
        secrets: list[str] = []
        for name in ("stream-one", "stream-many"):
            bench = await cleanup.enter_async_context(tenant(running, name))
            async with bench.database.tenant(bench.id) as session:
                secrets.append((await api_keys.create(session, "bench", ["*"], by=CLI))[1])
        store = Store(running.settings.database_url, UUID(int=0), secrets[0], [], [])
        port = await cleanup.enter_async_context(served(running, store, "api.app"))
        one, many = [
            await cleanup.enter_async_context(_told(port, secret, count))
            for secret, count in zip(secrets, (1, LISTENERS), strict=True)
        ]
        bare = await cleanup.enter_async_context(_written(LISTENERS))
        for _ in range(WARMING + EVENTS):
            for each in (one, many, bare):
                await each.tell()
    told_one, told_many, wrote = (each.seconds[WARMING:] for each in (one, many, bare))
    report(
        f"posted until heard, ms: one {_milliseconds(told_one)}, the last of {LISTENERS:,} {_milliseconds(told_many)};"
        f" a bare loop's writes {_milliseconds(wrote)}; median and tenths of {EVENTS} in turns"
    )
    first, last, floor = map(statistics.median, (told_one, told_many, wrote))
    return [
        Ratio("stream", last / first, 2, at_least=False),
        Ratio("stream-writes", (last - first) / floor, 1.5, at_least=False),
    ]


@asynccontextmanager
async def _heard(port: int, secret: str, count: int) -> AsyncGenerator[asyncio.StreamReader]:
    """Open so many streams; lend what their process says of each event."""
    command = [sys.executable, str(_LISTENING), str(port), secret, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    if process.stdout is None:
        raise TypeError("a pipe was asked for")
    async with asyncio.timeout(120):
        await process.stdout.readline()
    yield process.stdout
    process.kill()
    await process.wait()


@asynccontextmanager
async def _told(port: int, secret: str, count: int) -> AsyncGenerator[Told]:
    async with _heard(port, secret, count) as listeners:
        head = f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {secret}\r\n"
        request = f"{head}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
        answering, posting = await asyncio.open_connection("127.0.0.1", port)
        yield Told(posting, request.encode(), listeners, answering)
        posting.close()


@asynccontextmanager
async def _written(count: int) -> AsyncGenerator[Told]:
    command = [sys.executable, str(_WRITING), str(count)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    if process.stdin is None or process.stdout is None:
        raise TypeError("pipes were asked for")
    async with _heard(int(await process.stdout.readline()), "", count) as listeners:
        yield Told(process.stdin, b"\n", listeners)
    process.kill()
    await process.wait()
