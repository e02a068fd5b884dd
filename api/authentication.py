"""Who calls: API keys, looked up once in ten seconds a process.

A key revoked in this process is refused here at once, and elsewhere within `TTL`.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from core.actor import Actor
from core.database import Database
from core.errors import UnauthorizedError
from services.tenancy import api_keys
from services.tenancy.api_keys import Credential

TTL = 10.0
"""Seconds a key is believed without asking the store again."""
CAPACITY = 10_000
"""Keys remembered at most; the one unused longest goes first."""
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Principal(Credential):
    """The credential of a request."""

    def actor(self, request_id: str | None) -> Actor:
        """Return who acts, for the activity log."""
        return Actor.api_key(self.key_id, request_id)


class Authenticator:
    """Resolves the `Authorization` header, remembering keys for `TTL` seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._refused: set[bytes] = set()

    async def authenticate(self, header: str | None) -> Principal:
        """Return whose key the header carries.

        Raises:
            UnauthorizedError: no key, not a key of ours, or a revoked one.
        """
        scheme, _, secret = (header or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise UnauthorizedError("Send an API key as Authorization: Bearer KEY.")
        if not secret.startswith(api_keys.PREFIX) or len(secret) > LONGEST_KEY:
            raise UnauthorizedError("The API key is not valid.")
        digest = api_keys.hash_of(secret)
        known = self._known.get(digest)
        now = time.monotonic()
        if known is not None and known[0] > now:
            self._known.move_to_end(digest)
            return known[1]
        async with self._database.system() as session:
            credential = await api_keys.find(session, digest)
        if credential is None or digest in self._refused:
            self._known.pop(digest, None)
            raise UnauthorizedError("The API key is not valid.")
        principal = Principal(credential.tenant_id, credential.key_id, credential.scopes)
        self._known[digest] = (now + TTL, principal)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return principal

    def refuse(self, secret_hash: bytes) -> None:
        """Never accept this key again in this process, whatever a look-up under way still finds."""
        self._refused.add(secret_hash)
        self._known.pop(secret_hash, None)
