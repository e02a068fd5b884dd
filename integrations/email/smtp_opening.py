"""Opening an SMTP connection: greeting, TLS, log-in."""

import asyncio
import base64
import socket
import ssl
from typing import Final, cast

from integrations.email.port import UnreachableError
from integrations.email.smtp_replies import MalformedError, Replies, Reply
from integrations.email.smtp_server import Offers, SmtpServer

_OK: Final = 250
_READY: Final = 220
_LOGGED_IN: Final = 235
_GO_ON: Final = 334
_PERMANENT: Final = 500


class LogInError(UnreachableError):
    """The server does not take the password, or it would go without TLS."""


class Opening(asyncio.Protocol):
    """A connection up to where mails can be sent."""

    def __init__(self, server: SmtpServer, *, timeout: float) -> None:
        """Prepare; `open` connects. `timeout` is in seconds, for each answer."""
        self._server = server
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._replies = Replies()
        self._offers = Offers()
        self._answer: asyncio.Future[Reply] | None = None
        """What a command before the first mail waits for."""
        self._lost_because: str | None = None

    async def open(self, tls: ssl.SSLContext) -> None:
        """Connect, secure the connection and log in.

        Raises:
            UnreachableError: nobody answers, or lets us in.
        """
        server = self._server
        try:
            async with asyncio.timeout(self._timeout):
                self._answer = self._loop.create_future()
                await self._loop.create_connection(
                    lambda: self,
                    server.host,
                    server.port,
                    ssl=tls if server.implicit_tls else None,
                    server_hostname=server.host if server.implicit_tls else None,
                )
                await self._expect(_READY)
                await self._greet()
                secure = server.implicit_tls
                if not secure and self._offers.starttls:
                    await self._start_tls(tls)
                    secure = True
                if server.username is not None:
                    try:
                        await self._log_in(server.username, server.password or "", secure=secure)
                    except _RefusedError as error:
                        if self._lost_because is None:
                            raise LogInError(f"{server.host}:{server.port}: {error}") from error
                        raise
        except TimeoutError as error:
            self.drop()
            raise UnreachableError(f"{server.host}:{server.port}: no answer within {self._timeout:g} s") from error
        except (_RefusedError, MalformedError, OSError) as error:
            self.drop()
            raise UnreachableError(f"{server.host}:{server.port}: {error}") from error
        except BaseException:
            self.drop()
            raise
        self._answer = None

    async def _greet(self) -> None:
        name = socket.gethostname()
        reply = await self._command(f"EHLO {name}")
        if reply.code == _OK:
            self._offers = Offers.of(reply.text)
        elif reply.code >= _PERMANENT:
            self._offers = Offers()
            await self._command(f"HELO {name}", expected=_OK)
        else:
            raise _RefusedError(str(reply))

    async def _start_tls(self, tls: ssl.SSLContext) -> None:
        await self._command("STARTTLS", expected=_READY)
        if self._replies.pending or self._transport is None:
            raise _RefusedError("the server spoke before the connection was secure")
        secured = await self._loop.start_tls(self._transport, self, tls, server_hostname=self._server.host)
        if secured is None:
            raise _RefusedError("connection lost")
        self._transport = secured
        if self._lost_because is not None:
            raise _RefusedError(self._lost_because)
        await self._greet()  # whatever it said before may have been said by anybody

    async def _log_in(self, username: str, password: str, *, secure: bool) -> None:
        if not secure and not self._server.is_loopback:
            raise _RefusedError("it offers no TLS, so it gets no password")
        if "PLAIN" in self._offers.logins:
            token = _base64(f"\0{username}\0{password}")
            await self._command(f"AUTH PLAIN {token}", expected=_LOGGED_IN)
        elif "LOGIN" in self._offers.logins:
            await self._command("AUTH LOGIN", expected=_GO_ON)
            await self._command(_base64(username), expected=_GO_ON)
            await self._command(_base64(password), expected=_LOGGED_IN)
        else:
            raise _RefusedError("it offers no way to log in that we know (PLAIN, LOGIN)")

    async def _command(self, line: str, *, expected: int | None = None) -> Reply:
        if self._transport is None or self._lost_because is not None:
            raise _RefusedError(self._lost_because or "connection lost")
        self._answer = self._loop.create_future()
        self._transport.write(f"{line}\r\n".encode())
        return await self._expect(expected)

    async def _expect(self, code: int | None) -> Reply:
        if self._answer is None:
            raise _RefusedError("connection lost")
        reply = await self._answer
        if code is not None and reply.code != code:
            raise _RefusedError(str(reply))
        return reply

    def drop(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def _fail_command(self, reason: str) -> None:
        """Tell the command that waits, if one does, that nothing will come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_RefusedError(reason))
            self._answer.exception()  # may be read by nobody any more


class _RefusedError(Exception):
    """The server does not let us in."""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
