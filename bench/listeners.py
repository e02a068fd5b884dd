"""Listeners of one stream each: `python bench/listeners.py PORT SECRET COUNT`, nothing but sockets.

Prints a line when all are open, and from then on, for each event, the time at which the last of them had it.
"""

import select
import socket
import sys
import time

OPENED = b"retry:"
EVENT = b"\nevent: "
_LONGEST = 65_536


def main(port: int, secret: str, count: int) -> None:
    """Open the streams, and say when all have each event."""
    poll = select.epoll()
    listeners: dict[int, socket.socket] = {}
    for _ in range(count):
        listener = socket.create_connection(("127.0.0.1", port))
        request = f"GET /v1/stream?types=page.viewed HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {secret}\r\n\r\n"
        listener.sendall(request.encode())
        read = b""
        while OPENED not in read:
            read += listener.recv(_LONGEST)
        listener.settimeout(0)
        listeners[listener.fileno()] = listener
        poll.register(listener.fileno(), select.EPOLLIN)
    print("open", flush=True)
    have = 0
    while True:
        for number, _ in poll.poll(-1, count):
            read = listeners[number].recv(_LONGEST)
            if not read:
                return
            have += read.count(EVENT)
        if have == count:
            print(time.perf_counter(), flush=True)
            have = 0


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
