"""The demo's developer: his program is told of orders by a webhook, follows the stream, and asks by GraphQL."""

import json
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from integrations.webhooks import signing
from stack.demo_people import Driver
from stack.processes import StackError

QUERY: Final = """query($id: UUID!) { person(id: $id) {
  lifecycleStage customer { orderCount }
  segments { key }
  deals(first: 5) { nodes { title status } }
  orders(first: 5) { nodes { number paymentStatus } }
} }"""


class Shop:
    """Somebody's program behind an address, while the demo runs."""

    def __init__(self, url: str, place: str) -> None:
        """Answer at `url`; the stream is at `place`."""
        self.url = url
        self.place = place
        self.secret = ""
        self.told: list[dict[str, Any]] = []

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep what was posted if it is signed by our secret; return whether it is."""
        at = datetime.fromtimestamp(int(headers.get("webhook-timestamp", "0")), UTC)
        signed = signing.headers(headers.get("webhook-id", ""), at, body, [self.secret])
        if not compare_digest(signed["webhook-signature"], headers.get("webhook-signature", "")):
            return False
        self.told.append(json.loads(body))
        return True


@contextmanager
def listening(driver: Driver) -> Generator[Shop]:
    """Run the program, and have it told of orders."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204 if shop.take(dict(self.headers), body) else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing: the demo tells."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop = Shop(f"http://127.0.0.1:{server.server_port}/throughline", _last_id(_streamed(driver, "")))
    Thread(target=server.serve_forever, daemon=True).start()
    made = driver.call("POST", "/webhooks", {"url": shop.url, "event_types": ["order.*"]}).json()
    shop.secret = made["secret"]
    try:
        yield shop
    finally:
        # nobody answers there once the demo is over
        driver.call("DELETE", f"/webhooks/{made['id']}")
        server.shutdown()
        server.server_close()


def show(driver: Driver, shop: Shop, *, base_url: str, person_id: str, order_id: str) -> None:
    """Tell what the program was told of an order, what the stream tells of the person, and what GraphQL answers."""

    def told() -> list[str] | None:
        types = [event["type"] for event in shop.told if event["data"]["properties"].get("order_id") == order_id]
        return types if {"order.placed", "order.refunded"} <= set(types) else None

    types = driver.until("what the webhook tells", told)
    driver.tell(f"   The shop's own program was told, signed and in order: {', '.join(types)}.")
    streamed = _streamed(driver, f"subject=person:{person_id}&last_event_id={shop.place}")
    counts = Counter(line.removeprefix("event: ") for line in streamed if line.startswith("event: "))
    del counts["end"]
    often = ", ".join(f"{count} {name}" for name, count in counts.most_common(4))
    driver.tell(f"   The stream has {counts.total()} events about him since the demo began: {often}, ...")
    asked = {"query": QUERY, "variables": {"id": person_id}}
    answer = driver.call("POST", f"{base_url}/graphql", asked).json()
    if "errors" in answer:
        raise StackError(f"GraphQL answered {answer['errors']}")
    driver.tell(f"   One GraphQL query across the domains: {json.dumps(answer['data']['person'])}")


def _streamed(driver: Driver, parameters: str) -> list[str]:
    """Return the lines of the stream up to now."""
    return driver.call("GET", f"/stream?follow=false&{parameters}").text.splitlines()


def _last_id(lines: list[str]) -> str:
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")][-1]
