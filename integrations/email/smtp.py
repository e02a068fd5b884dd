"""Mail by SMTP: kept connections, many mails a connection, each mail answered for itself."""

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponse

from integrations.email.port import Delivery, Mail, Outcome, Report, UnreachableError

TIMEOUT_SECONDS: Final = 60.0
"""For each answer. RFC 5321 asks for minutes; a host that takes longer is tried again later."""
IDLE_SECONDS: Final = 30.0
"""A connection unused for longer is not trusted to be alive."""

_OK: Final = 250
_GO_AHEAD: Final = 354
_GOING_AWAY: Final = 421
_PERMANENT: Final = 500
_DOTS: Final = re.compile(rb"(?m)^\.")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how to connect."""

    host: str
    port: int
    implicit_tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> "SmtpServer":
        """Read `smtp://[user:password@]host[:port]`, or `smtps://` for TLS from the first byte.

        Raises:
            ValueError: it is neither.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise ValueError("SMTP_URL must be smtp://host:port or smtps://host:port")
        implicit = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=parts.port or (465 if implicit else 25),
            implicit_tls=implicit,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether the connection stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class SmtpChannel:
    """Delivers mail through one server over at most `connections` connections.

    TLS is used where the server offers it, and its certificate verified unless the server is on this machine; a
    password goes nowhere else without TLS.
    """

    repeat_is_harmless = False

    def __init__(self, server: SmtpServer, *, connections: int = 20) -> None:
        """Prepare; nothing connects before the first mail."""
        self._server = server
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
        self._tls: ssl.SSLContext | None = None

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:
        """Deliver mails over as many connections as there is use for. See `EmailChannel.deliver`."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(_tls_context, verify=not self._server.is_loopback)
        left = _Left(mails)
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, min(self._connections, expected))):
                group.create_task(self._work(left, report))
        if left.unreachable is not None:
            raise left.unreachable

    async def _work(self, left: "_Left", report: Report) -> None:
        while True:
            async with self._slots:
                mail = left.take()
                if mail is None:
                    return
                connection = self._lend()
                try:
                    await connection.send(mail, report)
                except UnreachableError as error:
                    # Others may have a connection that works: the mail goes to them, if to anybody.
                    left.give_back(mail, error)
                    return
                finally:
                    if connection.usable:
                        self._idle.append(connection)

    def _lend(self) -> "_Connection":
        now = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.used_at < IDLE_SECONDS:
                return connection
            connection.drop()
        if self._tls is None:
            raise RuntimeError("lent before the first delivery")
        return _Connection(self._server, self._tls)

    async def close(self) -> None:
        """Say QUIT on every connection."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit() for connection in idle))


class _Left:
    """The mails not yet taken, shared by the connections."""

    def __init__(self, mails: Iterator[Mail]) -> None:
        self._mails = mails
        self._returned: list[Mail] = []
        self._error: UnreachableError | None = None

    def take(self) -> Mail | None:
        return self._returned.pop() if self._returned else next(self._mails, None)

    def give_back(self, mail: Mail, error: UnreachableError) -> None:
        self._returned.append(mail)
        self._error = error

    @property
    def unreachable(self) -> UnreachableError | None:
        """Why some mails were left, if any were."""
        return self._error if self._returned else None


class _Connection:
    """One connection, opened by its first mail."""

    def __init__(self, server: SmtpServer, tls: ssl.SSLContext) -> None:
        self._server = server
        self._tls = tls
        self._client: SMTP | None = None
        self.used_at = time.monotonic()

    @property
    def usable(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def send(self, mail: Mail, report: Report) -> None:
        """Send one mail and report it; raise `UnreachableError`, having reported nothing, if nobody answers."""
        kept = self.usable
        client = self._client if self._client is not None and kept else await self._open()
        self.used_at = time.monotonic()
        try:
            refusal = await self._announce(client, mail)
        except (SMTPException, OSError) as error:
            self.drop()
            if kept:
                # A kept connection may have been closed while nobody looked; nothing was sent.
                await self.send(mail, report)
            else:
                report.finished(_delivery(mail, Outcome.RETRY, f"connection lost: {error}"))
            return
        if refusal is not None:
            report.finished(_refused(mail, refusal))
            await self._reset(client)
            return
        report.started(mail.id)
        try:
            reply = await self._content(client, mail)
        except (SMTPException, OSError) as error:
            self.drop()
            report.finished(_delivery(mail, Outcome.IN_DOUBT, f"no answer to the mail: {error}"))
            return
        if _OK <= reply.code < _GO_AHEAD:
            report.finished(_delivery(mail, Outcome.SENT, provider_id=reply.message[:200]))
            return
        report.finished(_refused(mail, reply))
        if reply.code == _GOING_AWAY:
            self.drop()

    async def _open(self) -> SMTP:
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.implicit_tls,
            start_tls=False if server.implicit_tls else None,
            tls_context=self._tls,
            local_hostname=socket.gethostname(),
            timeout=TIMEOUT_SECONDS,
        )
        try:
            await client.connect()
            await self._log_in(client)
        except (SMTPException, OSError) as error:
            client.close()
            raise UnreachableError(f"{server.host}:{server.port}: {error}") from error
        self._client = client
        return client

    async def _log_in(self, client: SMTP) -> None:
        server = self._server
        if server.username is None:
            return
        if not server.is_loopback and client.get_transport_info("sslcontext") is None:
            raise SMTPException("it offers no TLS, so it gets no password")
        await client.login(server.username, server.password or "")

    @staticmethod
    async def _announce(client: SMTP, mail: Mail) -> SMTPResponse | None:
        """Say from whom and to whom; return the refusal, if it is one. Nothing has been sent then."""
        reply = await client.execute_command(b"MAIL", b"FROM:<" + mail.sender.encode() + b">")
        if reply.code == _OK:
            reply = await client.execute_command(b"RCPT", b"TO:<" + mail.recipient.encode() + b">")
            if reply.code in {250, 251}:
                reply = await client.execute_command(b"DATA")
                if reply.code == _GO_AHEAD:
                    return None
        if reply.code == _GOING_AWAY:
            raise SMTPException(str(reply))
        return reply

    @staticmethod
    async def _content(client: SMTP, mail: Mail) -> SMTPResponse:
        protocol = client.protocol
        if protocol is None:
            raise SMTPException("connection lost")
        protocol.write(_DOTS.sub(b"..", mail.content) + b".\r\n")
        return await protocol.read_response(timeout=TIMEOUT_SECONDS)

    async def _reset(self, client: SMTP) -> None:
        try:
            await client.execute_command(b"RSET")
        except (SMTPException, OSError):
            self.drop()

    def drop(self) -> None:
        """Close without a word."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def quit(self) -> None:
        client, self._client = self._client, None
        if client is not None and client.is_connected:
            with suppress(SMTPException, OSError):
                await client.quit()
            client.close()


def _tls_context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refused(mail: Mail, reply: SMTPResponse) -> Delivery:
    outcome = Outcome.FAILED if reply.code >= _PERMANENT else Outcome.RETRY
    return _delivery(mail, outcome, f"{reply.code} {reply.message}"[:500])


def _delivery(mail: Mail, outcome: Outcome, reason: str | None = None, *, provider_id: str | None = None) -> Delivery:
    return Delivery(mail.id, outcome, datetime.now(UTC), provider_id=provider_id, reason=reason)
