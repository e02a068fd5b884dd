"""`python -m bench.receiver`: an HTTP server that takes whatever is posted, and says its port on a line of its own."""

import asyncio
import sys
from typing import Final, cast

import uvloop

_LENGTH: Final = b"content-length:"
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    """A connection that is kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request once it is whole."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].lower()
            start = head.index(_LENGTH) + len(_LENGTH)
            whole = end + 4 + int(head[start:].split(b"\r\n", 1)[0])
            if len(self._read) < whole:
                return
            self._read = self._read[whole:]
            self._transport.write(_ANSWER)


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
