"""Requests to addresses that tenants name: to public hosts over HTTPS alone, so that nobody has us knock at home doors.

What a name stands for is looked up once, checked, and connected to as found: an answer that changes between the check
and the connection changes nothing. Redirects are never followed.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import httpx

from integrations.traced import TracedTransport

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
"""Seconds for an answer, and for a connection."""


KEPT: Final = 20
"""Connections to one host that are kept open, at most."""
IDLE_SECONDS: Final = 5.0
"""One that was of no use for so long is closed, as httpx's own pool would."""

_LOOKUP_SECONDS: Final = 3.0


class ForbiddenHostError(Exception):
    """The address is not one that this deployment connects to."""


def check_url(url: str, *, private: bool, query: bool = False) -> None:
    """Check an address as a tenant gave it, without looking its host up.

    Args:
        url: where requests would go.
        private: whether this deployment allows plain HTTP and hosts of its own network.
        query: whether it may have one.

    Raises:
        ValueError: saying what is wrong.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is not an address") from error
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise ValueError("must begin with https://")
    if not host or parts.username is not None or parts.fragment or (parts.query and not query):
        raise ValueError(
            f"must be https://host, perhaps with a path{' and a query' if query else ''}, and nothing else"
        )
    if not private and _is_literal(host) and not _is_public(host):
        raise ValueError("must be a public host")


async def check_host(url: str, *, private: bool) -> None:
    """Check an address as a tenant gave it, and what its host stands for now; one that is not found yet may pass.

    Args:
        url: where requests would go; it may have a query.
        private: whether this deployment allows plain HTTP and hosts of its own network.

    Raises:
        ValueError: saying what is wrong.
    """
    check_url(url, private=private, query=True)
    if private:
        return
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            await public_address(parts.hostname or "", parts.port or 443)
    except ForbiddenHostError as error:
        raise ValueError("must be a public host") from error
    except (OSError, TimeoutError):
        return  # it is looked up again for each request


async def public_address(host: str, port: int) -> str:
    """Return an IP address of a host, all of whose addresses are public.

    Raises:
        ForbiddenHostError: it has others, too.
        OSError: it cannot be found.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(_is_public(address) for address in addresses):
        raise ForbiddenHostError(f"{host} is not a public host")
    return addresses[0]


def client(*, private: bool) -> httpx.AsyncClient:
    """Return a client for addresses that tenants name; with `private` it connects anywhere."""
    transport = _Hosts() if private else _PublicHosts()
    traced = TracedTransport(transport, telling=True)
    return httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False, transport=traced)


class _Hosts(httpx.AsyncBaseTransport):
    """Keeps the connections of each host apart."""

    def __init__(self) -> None:
        # One each: two hosts of one address must not share a connection, whose certificate is the first one's.
        self._hosts: dict[tuple[str, str, int | None], _Connections] = {}
        self._verify = httpx.create_ssl_context(trust_env=False)
        self._swept = time.monotonic()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._sweep()
        return await self._of(request.url).handle_async_request(request)

    def _of(self, url: httpx.URL) -> "_Connections":
        key = (url.scheme, url.host, url.port)
        if key not in self._hosts:
            self._hosts[key] = _Connections(self._verify)
        return self._hosts[key]

    async def _sweep(self) -> None:
        """Close what rests, also of hosts that nothing is asked of any more."""
        now = time.monotonic()
        if now - self._swept < IDLE_SECONDS:
            return
        self._swept = now
        for host in list(self._hosts.values()):
            await host.close_resting(now)
        self._hosts = {key: host for key, host in self._hosts.items() if host.in_use}

    async def aclose(self) -> None:
        for connections in self._hosts.values():
            await connections.aclose()


class _PublicHosts(_Hosts):
    """Connects to the address that was checked, under the name that was asked for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        try:
            address = await public_address(host, request.url.port or 443)
        except (OSError, ForbiddenHostError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        await self._sweep()
        return await self._of(request.url).handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
        )


class _Connections(httpx.AsyncBaseTransport):
    """Connections to one host, each in a pool of its own.

    httpx's pool looks through all of its connections, pair by pair, for each request: with twenty that is most of the
    request.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        self._verify = verify
        self._free: list[tuple[float, httpx.AsyncHTTPTransport]] = []
        """And since when each is free, the longest first."""
        self._all: set[httpx.AsyncHTTPTransport] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        one = self._free.pop()[1] if self._free else httpx.AsyncHTTPTransport(verify=self._verify, trust_env=False)
        self._all.add(one)
        try:
            response = await one.handle_async_request(request)
        except BaseException:
            await self._done(one)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - a transport that awaits has no other
        response.stream = _Lent(response.stream, lambda: self._done(one))
        return response

    @property
    def in_use(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    async def close_resting(self, now: float) -> None:
        """Close those that were of no use for so long; should the caller be cancelled, the others rest on."""
        while self._free and now - self._free[0][0] >= IDLE_SECONDS:
            _, one = self._free.pop(0)
            self._all.discard(one)
            await one.aclose()

    async def _done(self, one: httpx.AsyncHTTPTransport) -> None:
        if len(self._free) < KEPT:
            self._free.append((time.monotonic(), one))
        else:
            self._all.discard(one)
            await one.aclose()

    async def aclose(self) -> None:
        for one in self._all:
            await one.aclose()


class _Lent(httpx.AsyncByteStream):
    """An answer's body, whose connection is free for another request once it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, done: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._done: Callable[[], Awaitable[None]] | None = done

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            done, self._done = self._done, None
            if done is not None:
                await done()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return True


def _is_public(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or _is_public(str(inner)))
