"""TXT records, looked up at the resolver of the machine or at one of the settings' choice."""

from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver

TIMEOUT_SECONDS = 5.0


class LookupFailedError(Exception):
    """Nobody could say whether there is a record: it may be asked again."""


class TxtLookup(Protocol):
    """Looks for TXT records."""

    async def txt(self, name: str) -> list[str]:
        """Return the texts at a name, each joined of its strings; none where the name or the record is not there.

        Raises:
            LookupFailedError: no server answered.
        """
        ...


class Resolver:
    """Asks a recursive resolver."""

    def __init__(self, server: str | None = None) -> None:
        """Take the address of a resolver, `host:port` or `host`; without one the machine's are asked."""
        self._server = server
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def txt(self, name: str) -> list[str]:
        """See `TxtLookup`."""
        try:
            answer = await self._opened().resolve(name, "TXT", lifetime=TIMEOUT_SECONDS, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailedError(type(error).__name__) from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]

    def _opened(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            self._resolver = opened(self._server)
        return self._resolver


def opened(server: str | None) -> dns.asyncresolver.Resolver:
    """Return what asks the resolver at `host` or `host:port`; without one, the machine's."""
    resolver = dns.asyncresolver.Resolver(configure=server is None)
    if server is not None:
        host, _, port = server.rpartition(":") if ":" in server else (server, "", "53")
        resolver.nameservers = [host]
        resolver.port = int(port)
    return resolver
