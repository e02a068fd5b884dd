"""A mail server on this machine that takes everything and remembers whose Message-ID it accepted how often.

It offers PIPELINING, as the servers of providers do, and is quick enough for a campaign: a mail is counted before its
answer is written, so that a sender that dies in between has sent it.
"""

import asyncio
import re
import threading
from collections import Counter
from types import TracebackType
from typing import Final, Self, cast

from stack.processes import free_port

_MESSAGE_ID: Final = re.compile(rb"(?mi)^message-id: <([0-9a-f-]{36})@")
_END: Final = b"\r\n.\r\n"
_OK: Final = b"250 OK\r\n"


class MailSink:
    """Listens in a thread of its own while the block runs, so that a test may wait and kill meanwhile."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        """Mails by the id of their message."""
        self.open = set[object]()
        """Connections."""
        self._port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mail-sink")
        self._listening = threading.Event()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        listening = self._loop.create_server(lambda: _Conversation(self.accepted, self.open), "127.0.0.1", self._port)
        server = self._loop.run_until_complete(listening)
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, accepted: Counter[str], others: set[object]) -> None:
        self._accepted = accepted
        self._open = others
        self._buffer = b""
        self._in_data = False
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._transport.write(b"220 sink.example ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers: list[bytes] = []
        while self._in_data or b"\r\n" in self._buffer:
            if self._in_data:
                content, end, rest = (b"\r\n" + self._buffer).partition(_END)
                if not end:
                    break
                self._buffer, self._in_data = rest, False
                found = _MESSAGE_ID.search(content)
                self._accepted[found[1].decode() if found else "without an id"] += 1
                answers.append(_OK)
            else:
                line, _, self._buffer = self._buffer.partition(b"\r\n")
                answers.append(self._answer(line.split(b" ")[0].upper()))
        self._transport.write(b"".join(answers))
        if self._done:
            self._transport.close()

    def _answer(self, verb: bytes) -> bytes:
        match verb:
            case b"EHLO":
                return b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
            case b"DATA":
                self._in_data = True
                return b"354 go ahead\r\n"
            case b"QUIT":
                self._done = True
                return b"221 bye\r\n"
            case _:
                return _OK
