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
            self._resolver = dns.asyncresolver.Resolver(configure=self._server is None)
            if self._server is not None:
                host, _, port = self._server.rpartition(":") if ":" in self._server else (self._server, "", "53")
                self._resolver.nameservers = [host]
                self._resolver.port = int(port)
        return self._resolver
