"""A mail server that misbehaves as it is told, for some recipients or at some moments, and counts what it took."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, cast

DROP: Final = "drop"
"""Instead of an answer: the connection ends."""
HANG: Final = "hang"
"""Instead of an answer: nothing, until the test is over."""
_END: Final = b"\r\n.\r\n"
_RECIPIENT: Final = re.compile(rb"(?i)^rcpt to:<([^>]*)>")


def _lists() -> dict[str, list[str]]:
    return defaultdict(list)


@dataclass
class BadServer:
    """Answers that stand in a list are used up in turn; after them it is a good server. A 421 ends its connection."""

    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    knows_ehlo: bool = True
    greeting: list[str] = field(default_factory=list[str])
    mail: list[str] = field(default_factory=list[str])
    """To MAIL, whoever it is for."""
    rcpt: dict[str, list[str]] = field(default_factory=_lists)
    """By recipient, as all below."""
    content: dict[str, list[str]] = field(default_factory=_lists)
    """`DROP` within the mail, when some of it has come."""
    dot: dict[str, list[str]] = field(default_factory=_lists)
    """To the mail; it is not kept, unless it is an answer of 2xx."""
    kept_then: dict[str, list[str]] = field(default_factory=_lists)
    """To a mail that it has kept: `DROP` or `HANG`, or any words."""
    mails_a_connection: int | None = None
    """After so many it says 421 to the next and ends."""
    drips: bool = False
    """Each byte of an answer comes for itself."""
    accepted: Counter[str] = field(default_factory=Counter[str])
    """Mails it took, by recipient."""
    offered: Counter[str] = field(default_factory=Counter[str])
    """How often each was a recipient."""
    connections: int = 0
    contents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    port: int = 0
    open: set["_Conversation"] = field(default_factory=set["_Conversation"])

    @property
    def url(self) -> str:
        """Where it is."""
        return f"smtp://127.0.0.1:{self.port}"


class _Conversation(asyncio.Protocol):
    def __init__(self, server: BadServer) -> None:
        self._server = server
        self._buffer = b""
        self._in_data = False
        self._recipient = ""
        self._kept = 0
        self._silent = False
        self._over = False
        self._out: list[bytes] = []
        self._dripping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections += 1
        self._server.open.add(self)
        self._say(_next(self._server.greeting) or "220 bad.example ESMTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._server.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._over and not self._silent and (self._in_data or b"\r\n" in self._buffer):
            if not self._in_data:
                line, _, self._buffer = self._buffer.partition(b"\r\n")
                self._command(line)
            elif not self._mail():
                return

    def _command(self, line: bytes) -> None:
        server = self._server
        match line.split(b" ")[0].upper():
            case b"EHLO" if not server.knows_ehlo:
                self._say("502 5.5.1 what?")
            case b"EHLO":
                lines = ["bad.example", *server.extensions]
                self._say("\r\n".join([*(f"250-{each}" for each in lines[:-1]), f"250 {lines[-1]}"]))
            case b"MAIL":
                full = server.mails_a_connection is not None and self._kept >= server.mails_a_connection
                self._say(_next(server.mail) or ("421 4.7.0 enough for one connection" if full else "250 ok"))
            case b"RCPT":
                found = _RECIPIENT.match(line)
                self._recipient = found[1].decode() if found else ""
                server.offered[self._recipient] += 1
                answer = _next(server.rcpt[self._recipient]) or "250 ok"
                if not answer.startswith("2"):
                    self._recipient = ""
                self._say(answer)
            case b"DATA" if not self._recipient:
                self._say("503 5.5.1 nobody is to get it")
            case b"DATA":
                self._in_data = True
                self._say("354 go on")
            case b"QUIT":
                self._say("221 bye")
                self.transport.close()
            case _:
                self._say("250 ok")

    def _mail(self) -> bool:
        """Read the mail; whether it is there to its end."""
        server, recipient = self._server, self._recipient
        if len(self._buffer) > len(b"message-id:") and _next(server.content[recipient]) == DROP:
            self._say(DROP)
            return False
        content, end, rest = (b"\r\n" + self._buffer).partition(_END)
        if not end:
            return False
        self._buffer, self._in_data, self._recipient = rest, False, ""
        refusal = _next(server.dot[recipient])
        if not refusal:
            server.accepted[recipient] += 1
            server.contents[recipient] = content.lstrip(b"\r\n")
            self._kept += 1
        self._say(refusal or _next(server.kept_then[recipient]) or "250 2.0.0 kept")
        return True

    def _say(self, answer: str) -> None:
        if self._over:
            return
        if answer == DROP:
            self._over = True
            self.transport.abort()
        elif answer == HANG:
            self._silent = True
        elif self._server.drips:
            self._out += [bytes([each]) for each in f"{answer}\r\n".encode()]
            if not self._dripping:
                self._drip()
        else:
            self.transport.write(f"{answer}\r\n".encode())
        if answer.startswith("421"):
            self._over = True
            self.transport.close()

    def _drip(self) -> None:
        self._dripping = bool(self._out)
        if self._out and not self.transport.is_closing():
            self.transport.write(self._out.pop(0))
            asyncio.get_running_loop().call_soon(self._drip)


def _next(answers: list[str]) -> str:
    return answers.pop(0) if answers else ""


@asynccontextmanager
async def listening(server: BadServer) -> AsyncGenerator[BadServer]:
    """Have it listen while the block runs; at its port, once it had one."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Conversation(server), "127.0.0.1", server.port)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for each in list(server.open):
            each.transport.abort()
