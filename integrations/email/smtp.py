"""Mail by SMTP: kept connections, many mails a connection, each mail answered for itself."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from opentelemetry.trace import SpanKind

from core import tracing
from integrations.email.port import Mail, Report, UnreachableError
from integrations.email.smtp_connection import Connection
from integrations.email.smtp_server import SmtpServer

__all__ = ["IDLE_SECONDS", "TIMEOUT_SECONDS", "SmtpChannel", "SmtpServer", "tls_context"]

TIMEOUT_SECONDS: Final = 60.0
"""For each answer. RFC 5321 asks for minutes; a host that takes longer is tried again later."""
IDLE_SECONDS: Final = 30.0
"""A connection unused for longer is not trusted to be alive."""
_MAX_RETURNS: Final = 3
"""How often a mail goes to another connection because one was lost under it, before it is put off."""


class SmtpChannel:
    """Delivers mail through one server over at most `connections` connections.

    TLS is used where the server offers it, and its certificate verified unless the server is on this machine; a
    password goes nowhere else without TLS.
    """

    repeat_is_harmless = False

    def __init__(self, server: SmtpServer, *, connections: int = 20, timeout: float = TIMEOUT_SECONDS) -> None:
        """Prepare; nothing connects before the first mail. `timeout` is in seconds, for each answer."""
        self._server = server
        self._connections = connections
        self._timeout = timeout
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self._tls: ssl.SSLContext | None = None
        self._server_told = {"network.protocol.name": "smtp", "server.address": server.host, "server.port": server.port}

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        """Deliver mails over as many connections as there is use for. See `EmailChannel.deliver`."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(tls_context, verify=not self._server.is_loopback)
        left = _Left(mails)
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(self._connections, expected))):
                group.create_task(self._work(left, report, self._tls))
        if left.unreachable is not None:
            raise left.unreachable

    async def _work(self, left: "_Left", report: Report, tls: ssl.SSLContext) -> None:
        while True:
            async with self._slots:
                mail = left.take()
                if mail is None:
                    return
                try:
                    with tracing.span("SMTP", kind=SpanKind.CLIENT, attributes=self._server_told):
                        await self._converse(mail, left, report, tls)
                except UnreachableError as error:
                    # Others may have a connection that works: the mail goes to them, if to anybody.
                    left.leave(mail, error)
                    return

    async def _converse(self, mail: Mail, left: "_Left", report: Report, tls: ssl.SSLContext) -> None:
        """Send the mail, and those that follow, by one connection.

        Raises:
            UnreachableError: there is none to be had; nothing was sent.
        """
        connection = await self._lend(tls)
        try:
            await connection.send(mail, left, report)
        finally:
            if connection.usable:
                self._idle.append(connection)

    async def _lend(self, tls: ssl.SSLContext) -> Connection:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.used_at < IDLE_SECONDS:
                return connection
            connection.drop()
        connection = Connection(self._server, timeout=self._timeout)
        await connection.open(tls)
        return connection

    async def close(self) -> None:
        """Say QUIT on every connection."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.quit()


class _Left:
    """The mails not yet taken, shared by the connections."""

    def __init__(self, mails: Iterator[Mail]) -> None:
        self._mails = mails
        self._returned: list[Mail] = []
        self._returns: dict[UUID, int] = {}
        self._error: UnreachableError | None = None

    def take(self) -> Mail | None:
        return self._returned.pop() if self._returned else next(self._mails, None)

    def give_back(self, mail: Mail, *, counted: bool) -> bool:
        if counted:
            times = self._returns[mail.id] = self._returns.get(mail.id, 0) + 1
            if times > _MAX_RETURNS:
                return False
        self._returned.append(mail)
        return True

    def leave(self, mail: Mail, error: UnreachableError) -> None:
        self._returned.append(mail)
        self._error = error

    @property
    def unreachable(self) -> UnreachableError | None:
        """Why some mails were left, if any were."""
        return self._error if self._returned else None


def tls_context(*, verify: bool) -> ssl.SSLContext:
    """Return what TLS is done with; unverified for a server on this machine only."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
