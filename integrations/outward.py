"""Requests to addresses that tenants name: to public hosts over HTTPS alone, so that nobody has us knock at home doors.

What a name stands for is looked up once, checked, and connected to as found: an answer that changes between the check
and the connection changes nothing. Redirects are never followed.
"""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

import httpx

from integrations.traced import TracedTransport

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
"""Seconds for an answer, and for a connection."""


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
    """Return a client for addresses that tenants name; with `private` it connects anywhere.

    Receivers are told `traceparent` where the request is traced.
    """
    transport = httpx.AsyncHTTPTransport(trust_env=False) if private else _PublicHosts()
    traced = TracedTransport(transport, telling=True)
    return httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False, transport=traced)


class _PublicHosts(httpx.AsyncBaseTransport):
    """Connects to the address that was checked, under the name that was asked for."""

    def __init__(self) -> None:
        # One each: two hosts of one address must not share a connection, whose certificate is the first one's.
        self._hosts: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        try:
            address = await public_address(host, request.url.port or 443)
        except (OSError, ForbiddenHostError) as error:
            raise httpx.ConnectError(str(error), request=request) from error
        transport = self._hosts.setdefault(host, httpx.AsyncHTTPTransport(trust_env=False))
        return await transport.handle_async_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
        )

    async def aclose(self) -> None:
        for transport in self._hosts.values():
            await transport.aclose()


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
