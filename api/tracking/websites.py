"""Which website speaks: write keys and origins, looked up once in ten seconds a process, and what CORS lets it read.

A key revoked, or settings changed, in this process count here at once and elsewhere within `TTL`.
"""

import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

from core.database import Database
from core.errors import ForbiddenError, UnauthorizedError
from services.tenancy import origins, write_keys
from services.tenancy.write_keys import Website

TTL: Final = 10.0
"""Seconds that an answer of the store is believed."""
CAPACITY: Final = 10_000
"""Keys, and origins, remembered at most; the one unused longest goes first."""
PREFLIGHT_SECONDS: Final = 600
LONGEST_ORIGIN: Final = 300


class Websites:
    """The write keys and origins that this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: OrderedDict[str, tuple[float, Website]] = OrderedDict()
        self._origins: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._refused: set[str] = set()

    async def of_key(self, key: str) -> Website:
        """Return what a write key stands for.

        Raises:
            UnauthorizedError: it is not one of ours, or was revoked.
        """
        now = time.monotonic()
        known = self._keys.get(key)
        if known is not None and known[0] > now:
            self._keys.move_to_end(key)
            return known[1]
        found = None
        if key.startswith(write_keys.PREFIX) and len(key) <= write_keys.LONGEST and key.isprintable():
            async with self._database.system() as session:
                found = await write_keys.find(session, key)
        if found is None or key in self._refused:
            self._keys.pop(key, None)
            raise UnauthorizedError("The write key is not valid.")
        self._keys[key] = (now + TTL, found)
        if len(self._keys) > CAPACITY:
            self._keys.popitem(last=False)
        return found

    async def is_known(self, origin: str) -> bool:
        """Return whether some tenant allows this origin: what a preflight, which names no key, can be told."""
        if len(origin) > LONGEST_ORIGIN or not origin.isprintable():
            return False
        now = time.monotonic()
        known = self._origins.get(origin)
        if known is not None and known[0] > now:
            self._origins.move_to_end(origin)
            return known[1]
        async with self._database.system() as session:
            found = await origins.is_known(session, origin)
        self._origins[origin] = (now + TTL, found)
        if len(self._origins) > CAPACITY:
            self._origins.popitem(last=False)
        return found

    def refuse(self, key: str) -> None:
        """Never accept this key again in this process, whatever a look-up under way still finds."""
        self._refused.add(key)
        self._keys.pop(key, None)

    def forget(self, tenant_id: UUID) -> None:
        """Look up anew what was known of a tenant: its settings have changed."""
        for key in [key for key, (_, website) in self._keys.items() if website.tenant_id == tenant_id]:
            del self._keys[key]
        self._origins.clear()


def check_origin(origin: str | None, allowed: frozenset[str]) -> str:
    """Return the origin if it may write.

    Raises:
        ForbiddenError: there is none, as from a server, or the tenant does not allow it.
    """
    if origin is None:
        raise ForbiddenError("A write key is for browsers: there is no Origin header. A server uses /v1/events.")
    if origin not in allowed:
        raise ForbiddenError("This website is not among the tenant's allowed_origins.", extra={"origin": origin[:300]})
    return origin


def allowed(origin: str) -> dict[str, str]:
    """Return the headers that let the pages of this origin read an answer; never with credentials."""
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def preflight(origin: str) -> dict[str, str]:
    """Return the headers of an answer to a preflight from an allowed origin."""
    return {
        **allowed(origin),
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Content-Type",
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
