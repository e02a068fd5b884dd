"""Which website speaks: write keys and origins, looked up once in ten seconds a process, and what CORS lets it read.

A key revoked, or settings changed, in this process count here at once and elsewhere within `TTL`.
"""

from typing import Final
from uuid import UUID

from api.remembered import Remembered
from core.database import Database
from core.errors import ForbiddenError, UnauthorizedError
from services.tenancy import origins, write_keys
from services.tenancy.write_keys import Website

TTL: Final = 10.0
"""Seconds that an answer of the store is believed."""
CAPACITY: Final = 10_000
"""Keys, and origins, remembered."""
PREFLIGHT_SECONDS: Final = 600
LONGEST_ORIGIN: Final = 300


class Websites:
    """The write keys and origins that this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = Remembered[str, Website](CAPACITY)
        self._origins = Remembered[str, bool](CAPACITY)
        self.refuse = self._keys.forget
        """Has the store asked about a key; to be called when it is revoked."""

    async def of_key(self, key: str) -> Website:
        """Return what a write key stands for.

        Raises:
            UnauthorizedError: it is not one of ours, or was revoked.
        """

        async def look_up() -> tuple[Website, float] | None:
            if not (key.startswith(write_keys.PREFIX) and len(key) <= write_keys.LONGEST and key.isprintable()):
                return None
            async with self._database.system() as session:
                found = await write_keys.find(session, key)
            return None if found is None else (found, TTL)

        found = await self._keys.ask(key, look_up)
        if found is None:
            raise UnauthorizedError("The write key is not valid.")
        return found

    async def is_known(self, origin: str) -> bool:
        """Return whether some tenant allows this origin: what a preflight, which names no key, can be told."""

        async def look_up() -> tuple[bool, float]:
            async with self._database.system() as session:
                return await origins.is_known(session, origin), TTL

        if len(origin) > LONGEST_ORIGIN or not origin.isprintable():
            return False
        return await self._origins.ask(origin, look_up) or False

    def forget(self, tenant_id: UUID) -> None:
        """Look up anew what was known of a tenant: its settings have changed."""
        self._keys.forget_where(lambda website: website.tenant_id == tenant_id)
        self._origins.forget_where(lambda _: True)


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
