"""The floor of `stream`: `python bench/bare_writer.py COUNT` writes to so many sockets, and does nothing else.

Prints its port, takes the listeners' requests for streams, and writes a frame to each of them for each line of its
input.
"""

import socket
import sys

FRAME = b"\nevent: page.viewed\ndata: ".ljust(600, b"x") + b"\n\n"
"""As long as what a listener of the bench is told of an event."""
_LONGEST = 65_536


def main(count: int) -> None:
    """Take the listeners, and write to them whenever told."""
    server = socket.create_server(("127.0.0.1", 0), backlog=count)
    print(server.getsockname()[1], flush=True)
    writers: list[socket.socket] = []
    for _ in range(count):
        writer, _ = server.accept()
        writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read = b""
        while b"\r\n\r\n" not in read:
            part = writer.recv(_LONGEST)
            if not part:
                raise ConnectionError("a listener has gone")
            read += part
        writer.sendall(b"retry: 1\n\n")
        writers.append(writer)
    sends = [writer.send for writer in writers]
    for _ in sys.stdin:
        for send in sends:
            send(FRAME)


if __name__ == "__main__":
    main(int(sys.argv[1]))
