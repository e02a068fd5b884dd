"""Who calls: API keys and sessions, looked up once in ten seconds a process.

A key revoked in this process is refused here at once, and elsewhere within `TTL`; so is a session that was ended.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from api.remembered import Remembered
from core.actor import Actor
from core.database import Database
from core.errors import ForbiddenError, UnauthorizedError
from core.logging import get_logger
from services.tenancy import api_keys, sessions
from services.tenancy.api_keys import Credential

TTL = 10.0
"""Seconds a key is believed without asking the store again."""
CAPACITY = 10_000
"""Keys remembered at most."""
LONGEST_KEY = 200

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Principal(Credential):
    """The credential of a request."""

    @classmethod
    def of(cls, credential: Credential) -> Self:
        """Return the principal with this credential."""
        return cls(**asdict(credential))

    def require(self, *scopes: str) -> None:
        """Refuse who lacks one of these scopes.

        Raises:
            ForbiddenError: naming the scope.
        """
        for scope in scopes:
            if not self.allows(scope):
                who = "This key" if self.role is None else f"The role {self.role}"
                raise ForbiddenError(f"{who} lacks the scope {scope}.", extra={"required_scope": scope})

    def actor(self, request_id: str | None) -> Actor:
        """Return who acts, for the activity log."""
        if self.user_id is not None:
            return Actor.user(self.user_id, request_id)
        if self.key_id is not None:
            return Actor.api_key(self.key_id, request_id)
        raise TypeError("a credential is a user's or a key's")


class Authenticator:
    """Resolves the `Authorization` header, remembering keys and sessions for `TTL` seconds."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Take the store, and the clock that sessions end by."""
        self._database = database
        self._clock = clock
        self._known = Remembered[bytes, Principal](CAPACITY)
        self.refuse = self._known.forget
        """Has the store asked about secrets, by their hashes; to be called when their end is committed."""

    async def authenticate(self, header: str | None) -> Principal:
        """Return whose key or session the header carries.

        Raises:
            UnauthorizedError: no key, not a key of ours, or a revoked one; a session that is over.
        """
        scheme, _, secret = (header or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise UnauthorizedError("Send an API key or a session's token as Authorization: Bearer KEY.")
        if not secret.startswith((api_keys.PREFIX, sessions.PREFIX)) or len(secret) > LONGEST_KEY:
            raise UnauthorizedError("The API key is not valid.")
        digest = api_keys.hash_of(secret)
        of_session = secret.startswith(sessions.PREFIX)
        found = await self._known.ask(digest, lambda: self._session(digest) if of_session else self._key(digest))
        if found is None:
            raise UnauthorizedError(
                "The session is over; sign in again." if of_session else "The API key is not valid."
            )
        return found

    async def look_again(self, header: str | None, scopes: Iterable[str]) -> None:
        """Refuse who was let in before and is told things ever since, where that no longer holds.

        That the store does not answer is no reason: it is logged, and the next look may succeed.

        Raises:
            UnauthorizedError: the key was revoked, the session is over, or it lacks one of these scopes by now.
        """
        try:
            principal = await self.authenticate(header)
        except UnauthorizedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody said that the key is none
            _log.warning("credential_unchecked", exc_info=error)
            return
        if not principal.covers(scopes):
            raise UnauthorizedError("What the key allows has changed; connect again.")

    async def _key(self, digest: bytes) -> tuple[Principal, float] | None:
        async with self._database.system() as session:
            credential = await api_keys.find(session, digest)
        return None if credential is None else (Principal.of(credential), TTL)

    async def _session(self, digest: bytes) -> tuple[Principal, float] | None:
        """Find a session, and put off its end where its use was not written for a while."""
        now = self._clock()
        async with self._database.system() as session:
            found = await sessions.find(session, digest, now=now)
        if found is None:
            return None
        expires_at = found.expires_at
        if now - found.last_used_at >= sessions.TOUCHED:
            async with self._database.tenant(found.credential.tenant_id) as session:
                expires_at = await sessions.touch(session, found, now=now)
        return Principal.of(found.credential), min(TTL, (expires_at - now).total_seconds())

    def forget_user(self, user_id: UUID) -> None:
        """Ask the store again what this user may do."""
        self._known.forget_where(lambda principal: principal.user_id == user_id)
