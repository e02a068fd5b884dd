"""`GET /metrics` on a port of its own: the process's figures, Temporal's beside them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from core.logging import get_logger

PORTS: Final = 16
"""Processes of one machine that are told the same port take the next free ones, so many at most."""
_HEAD_BYTES: Final = 8 * 1024
_PATIENCE: Final = 10.0
"""Seconds that a scraper gets to ask, and Temporal's figures to come."""
_OK: Final = "200 OK"

log = get_logger(__name__)

Refresh = Callable[[], Awaitable[None]]
"""Brings a collector's figures up to date before they are read; never raises."""


class Exposition:
    """Answers scrapes."""

    def __init__(
        self, collectors: Sequence[Collector] = (), *, refresh: Refresh | None = None, beside: str | None = None
    ) -> None:
        """Show these collectors with the process's own metrics, and what is found at the address `beside`."""
        self._registry = CollectorRegistry(auto_describe=False)
        for each in collectors:
            self._registry.register(each)
        self._refresh = refresh
        self._beside = beside

    async def text(self) -> bytes:
        """Return all figures."""
        if self._refresh is not None:
            await self._refresh()
        # Some thousand lines are some ten milliseconds of work, in which requests are not to wait.
        own, more = await asyncio.to_thread(lambda: (generate_latest(REGISTRY), generate_latest(self._registry)))
        return own + more + await self._others()

    async def _others(self) -> bytes:
        if self._beside is None:
            return b""
        try:
            # Plain HTTP to this machine: reading all authorities for each scrape would hold up requests.
            async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False, verify=False) as client:  # noqa: S501 - see above
                answer = await client.get(f"http://{self._beside}/metrics")
        except httpx.HTTPError as error:
            log.warning("metrics.incomplete", error=type(error).__name__)
            return b""
        return answer.content

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            method, _, rest = head.decode("latin-1").partition(" ")
            path = rest.partition(" ")[0].partition("?")[0]
            status, body = _OK, b""
            if path != "/metrics":
                status, body = "404 Not Found", b"Figures are at /metrics.\n"
            elif method not in {"GET", "HEAD"}:
                status, body = "405 Method Not Allowed", b"Figures are there to be read.\n"
            else:
                body = await self.text()
            kind = CONTENT_TYPE_PLAIN_0_0_4 if status == _OK else "text/plain; charset=utf-8"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + (b"" if method == "HEAD" else body)
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # whoever it was has gone, or was no scraper
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def exposed(exposition: Exposition, listen: str) -> AsyncGenerator[int | None]:
    """Answer scrapes at `HOST:PORT` while the block runs; lend the port, None where none was to be had.

    A process does its work whether or not it can be measured.
    """
    host, _, wanted = listen.rpartition(":")
    server = await _listening(exposition, host.removeprefix("[").removesuffix("]"), int(wanted))
    if server is None:
        log.error("metrics.unavailable", listen=listen)
        yield None
        return
    port: int = server.sockets[0].getsockname()[1]
    log.info("metrics.ready", port=port)
    async with server:
        yield port


async def _listening(exposition: Exposition, host: str, first: int) -> asyncio.Server | None:
    for port in range(first, min(first + PORTS, 65_536)) if first else (0,):
        with suppress(OSError):
            return await asyncio.start_server(exposition.serve, host, port, limit=_HEAD_BYTES, reuse_port=False)
    return None
