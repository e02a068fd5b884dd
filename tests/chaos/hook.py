"""An HTTP server on this machine that remembers which calls it was made, by their id."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Hook:
    """Listens in a thread of its own while the block runs."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: list[tuple[str, bytes]] = []
        """In the order of arrival, each with its id."""
        calls, bodies, lock = self.calls, self.bodies, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # whoever called was killed while it did
                    self.close_connection = True
                    return
                with lock:
                    calls[self.headers["webhook-id"]] += 1
                    bodies.append((self.headers["webhook-id"], body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's word
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # or callers at once wait for their connection until they give up

            def handle_error(self, request: object, client_address: object) -> None:
                """Whoever called was killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="hook")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/deals"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
