"""The sockets that GraphQL is asked over: who asks, how many there may be, and the end of all.

A browser sends a WebSocket's handshake from any page, with what it keeps for us. It keeps nothing: we take no cookies,
and of a page's handshake the `Authorization` header does not count, so a page has only the key that it was given.
"""

import asyncio
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from starlette.websockets import WebSocket

from api.authentication import Authenticator, Principal
from core.errors import TooManyRequestsError, UnavailableError

RETRY_AFTER: Final = 5
"""Seconds until another attempt is worth while."""


@dataclass(slots=True)
class Connection:
    """What one socket is asked with."""

    websocket: WebSocket
    principal: Principal | None = None
    """Set once `connection_init` was accepted."""
    authorization: str | None = None
    connection_params: dict[str, object] = field(default_factory=dict[str, object])
    """What `connection_init` held; Strawberry sets it."""


class Sockets:
    """The sockets that this process serves."""

    def __init__(self, authenticator: Authenticator, *, per_tenant: int, in_all: int) -> None:
        """Take who knows the keys, and how many there may be."""
        self.authenticator = authenticator
        self._per_tenant = per_tenant
        self._in_all = in_all
        self._open = 0
        self._counts: Counter[UUID] = Counter()
        self.ending = asyncio.Event()
        """Set as the process is about to end."""

    @contextmanager
    def keeping(self, websocket: WebSocket) -> Generator[Connection]:
        """Count a socket while the block runs.

        Raises:
            UnavailableError: too many are open, or the process is about to end.
        """
        if self.ending.is_set():
            raise UnavailableError("This process is about to end; connect again.")
        if self._open >= self._in_all:
            raise UnavailableError("Too many sockets are open here; try again in a moment.")
        connection = Connection(websocket)
        self._open += 1
        try:
            yield connection
        finally:
            self._open -= 1
            if connection.principal is not None:
                tenant_id = connection.principal.tenant_id
                self._counts[tenant_id] -= 1
                if not self._counts[tenant_id]:
                    del self._counts[tenant_id]

    async def admit(self, connection: Connection) -> None:
        """Note who asks by a connection.

        Raises:
            UnauthorizedError: no key, or none of ours.
            TooManyRequestsError: the tenant has as many sockets as it may have.
        """
        connection.authorization = _authorization(connection)
        principal = await self.authenticator.authenticate(connection.authorization)
        if self._counts[principal.tenant_id] >= self._per_tenant:
            raise TooManyRequestsError(
                f"At most {self._per_tenant} sockets of a tenant can be open here at a time.", retry_after=RETRY_AFTER
            )
        self._counts[principal.tenant_id] += 1
        connection.principal = principal
        connection.websocket.state.principal = principal

    def end(self) -> None:
        """Close all, as the process is about to end: their clients come back elsewhere. From the event loop."""
        self.ending.set()


def _authorization(connection: Connection) -> str | None:
    """Return the credential as the header has it: that of `connection_init`, or else the handshake's own."""
    given: dict[str, object] = {name.lower().replace("_", ""): it for name, it in connection.connection_params.items()}
    key, authorization = given.get("apikey"), given.get("authorization")
    if isinstance(key, str):
        return f"Bearer {key}"
    if isinstance(authorization, str):
        return authorization
    headers = connection.websocket.headers
    return None if "origin" in headers else headers.get("authorization")
