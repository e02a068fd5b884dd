"""The reference of `campaign`: a bare pipelining client (RFC 2920) that sends one ready-made mail again and again.

It keeps no record, asks nobody, and writes no letter: `python -m bench.bare_mail PORT COUNT BYTES CONNECTIONS` prints
the seconds from first to last mail.
"""

import asyncio
import sys
import time

import uvloop


class Client(asyncio.Protocol):
    """One connection; takes the next number as soon as a mail is accepted."""

    def __init__(self, left: list[int], content: bytes, done: asyncio.Future[None]) -> None:
        """Share what is left to send."""
        self._left = left
        self._content = content
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._lines = 0
        self._awaited = 1
        self._greeted = False
        self._announced = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = transport  # type: ignore[assignment] - of TCP

    def data_received(self, data: bytes) -> None:
        """Count replies; send on when all have come."""
        self._lines += (
            data.count(b"\n") if self._greeted else data.count(b"\n250 ") + data.startswith((b"250 ", b"220 "))
        )
        if self._lines < self._awaited or self._transport is None:
            return
        self._lines = 0
        if not self._greeted and self._awaited == 1:
            self._awaited = 2
            self._lines = 1
            self._transport.write(b"EHLO bare.example\r\n")
            return
        self._greeted = True
        content = self._content if self._announced else b""
        self._announced = self._left[0] > 0
        self._awaited = bool(content) + 3 * self._announced
        if self._announced:
            self._left[0] -= 1
            address = b"%036d@bench.example" % self._left[0]
            following = b"MAIL FROM:<bench@bench.example>\r\nRCPT TO:<" + address + b">\r\nDATA\r\n"
            self._transport.write(content + following)
        elif content:
            self._transport.write(content)
        elif not self._done.done():
            self._done.set_result(None)


async def main(port: int, count: int, size: int, connections: int) -> float:
    """Send `count` mails of `size` bytes; return the seconds it took."""
    head = b"Subject: Hello\r\n\r\n"
    lines = (size - len(head)) // 72
    content = head + (b"x" * 70 + b"\r\n") * lines + b"x" * ((size - len(head)) % 72) + b"\r\n.\r\n"
    loop = asyncio.get_running_loop()
    left = [count]
    done: list[asyncio.Future[None]] = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for each in done:
        await loop.create_connection(lambda each=each: Client(left, content, each), "127.0.0.1", port)
    await asyncio.gather(*done)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.stdout.write(f"{uvloop.run(main(*map(int, sys.argv[1:5])))}\n")
