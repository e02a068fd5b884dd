"""`stream`: an event posted until the last of 1,000 listeners has it, against one listener.

One API serves both: the one and the thousand are of two tenants, to which events are posted in turns. The listeners are
bare sockets in processes of their own.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
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
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LISTENING = Path(__file__).with_name("listeners.py")


class Told:
    """A tenant to whose listeners events are told."""

    def __init__(self, secret: str, posting: Connection, listeners: asyncio.StreamReader) -> None:
        """Take a kept connection to post by, and what the listeners say."""
        head = f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {secret}\r\n"
        self._request = f"{head}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        self._reader, self._writer = posting
        self._listeners = listeners
        self.seconds: list[float] = []

    async def post(self) -> None:
        """Post an event, and note how long it took until the last listener had it."""
        began = time.perf_counter()
        self._writer.write(self._request)
        heard = float(await self._listeners.readline())
        self.seconds.append(heard - began)
        answer = await self._reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 202"), answer
        await asyncio.sleep(GAP_SECONDS)

    def __str__(self) -> str:
        """In milliseconds."""
        tenths = statistics.quantiles(self.seconds, n=10)
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
        for _ in range(WARMING + EVENTS):
            await one.post()
            await many.post()
        for each in (one, many):
            del each.seconds[:WARMING]
    report(
        f"posted until heard, ms: one {one}, the last of {LISTENERS:,} {many}; median and tenths of {EVENTS} in turns"
    )
    return [Ratio("stream", statistics.median(many.seconds) / statistics.median(one.seconds), 2, at_least=False)]


@asynccontextmanager
async def _told(port: int, secret: str, count: int) -> AsyncGenerator[Told]:
    command = [sys.executable, str(_LISTENING), str(port), secret, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    if process.stdout is None:
        raise TypeError("a pipe was asked for")
    async with asyncio.timeout(120):
        await process.stdout.readline()
    posting = await asyncio.open_connection("127.0.0.1", port)
    yield Told(secret, posting, process.stdout)
    posting[1].close()
    process.kill()
    await process.wait()
