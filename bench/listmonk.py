"""listmonk, the reference of `campaign`, driven by its own HTTP API.

Needed is one that nobody else uses, of version 6, with a user of the API who may do everything (`--install` makes one
where `LISTMONK_ADMIN_API_USER` is set, and prints its token). The bench tunes it as its own documentation advises for
large lists: 100 workers, 100 connections, batches of 5,000, no limit of the rate that is ever met.
"""

import asyncio
import csv
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote, urlsplit

import httpx

from bench.harness import Report
from stack.processes import StackError

if TYPE_CHECKING:
    from bench.mailing import Sink

_WORKERS: Final = 100
_RATE: Final = 5_000
"""Messages a second of each worker."""
_BATCH: Final = 5_000
_PATIENCE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 0.005
_STATUS_SECONDS: Final = 0.05
_PARAGRAPH: Final = (
    "<p>What is new this week, told in a sentence or two so that the mail has the size that mail has.</p>\n"
)
_BODY: Final = (
    "<html><body>\n<h1>Hello {{ .Subscriber.FirstName }},</h1>\n" + _PARAGRAPH * 3
    + '<p>Number {{ .Subscriber.Attribs.n }}: <a href="https://shop.example/offers?week=48@TrackLink">look at it</a>.'
    '</p>\n<p><a href="{{ UnsubscribeURL }}">Unsubscribe</a></p>{{ TrackView }}\n</body></html>\n'
)  # fmt: skip
_TEXT: Final = (
    "Hello {{ .Subscriber.FirstName }},\n\n"
    + "What is new this week, told in a sentence or two so that the mail has the size that mail has.\n\n" * 3
    + "Number {{ .Subscriber.Attribs.n }}: look at it\n\nUnsubscribe: {{ UnsubscribeURL }}\n"
)


@dataclass(slots=True)
class Listmonk:
    """One that runs somewhere."""

    client: httpx.AsyncClient
    list_id: int = 0
    template_id: int = 0

    @classmethod
    def of(cls, url: str | None) -> Self | None:
        """Return the one at `http://USER:TOKEN@HOST:PORT`; None without an address."""
        if not url:
            return None
        parts = urlsplit(url)
        login = f"token {unquote(parts.username or '')}:{unquote(parts.password or '')}"
        address = f"{parts.scheme}://{parts.hostname}:{parts.port or 80}/api/"
        return cls(httpx.AsyncClient(base_url=address, headers={"Authorization": login}, timeout=60))

    async def prepare(self, port: int, recipients: int) -> None:
        """Have it send to a server at `port` of this machine, and give it so many subscribers."""
        settings: dict[str, Any] = await self._ask("GET", "settings")
        # what the bench does not care about stays as it is
        server: dict[str, Any] = settings["smtp"][0] | {
            "enabled": True,
            "host": "127.0.0.1",
            "port": port,
            "auth_protocol": "none",
            "username": "",
            "password": "",
            "max_conns": _WORKERS,
            "tls_type": "none",
        }
        settings |= {
            "smtp": [server],
            "app.concurrency": _WORKERS,
            "app.message_rate": _RATE,
            "app.batch_size": _BATCH,
            "app.check_updates": False,
        }
        await self._ask("PUT", "settings", json=settings)
        await self._until_up()
        mailing_list = {"name": f"bench {time.time_ns()}", "type": "private", "optin": "single"}
        self.list_id = (await self._ask("POST", "lists", json=mailing_list))["id"]
        shape = {"name": "bench", "type": "campaign", "body": '{{ template "content" . }}'}
        self.template_id = (await self._ask("POST", "templates", json=shape))["id"]
        await self._import(recipients)

    async def _until_up(self) -> None:
        """Wait until it has started anew, which it does a moment after its settings were changed."""
        await asyncio.sleep(2)
        ends = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < ends:
            try:
                await self._ask("GET", "lists")
            except (httpx.HTTPError, StackError):
                await asyncio.sleep(0.2)
            else:
                return
        raise StackError("listmonk does not come back after its settings were changed")

    async def _import(self, recipients: int) -> None:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(("email", "name", "attributes"))
        for number in range(recipients):
            rows.writerow((f"p{number}@bench.example", "Bench Person", json.dumps({"n": number})))
        how = {
            "mode": "subscribe",
            "subscription_status": "confirmed",
            "delim": ",",
            "lists": [self.list_id],
            "overwrite": True,
            "overwrite_userinfo": True,
            "overwrite_subscription_status": True,
        }
        await self._ask(
            "POST",
            "import/subscribers",
            data={"params": json.dumps(how)},
            files={"file": ("people.csv", text.getvalue().encode(), "text/csv")},
        )
        status = "importing"
        while status == "importing":
            await asyncio.sleep(0.5)
            status = (await self._ask("GET", "import/subscribers"))["status"]
        if status != "finished":
            raise StackError(f"listmonk's import is {status}")
        await self._ask("DELETE", "import/subscribers")

    async def send(self, sink: "Sink", report: Report) -> tuple[float, float]:
        """Send a campaign to all; return the seconds from the first to the last byte, and from start to finished."""
        fields = {
            "name": f"bench {time.time_ns()}",
            "subject": "Hello {{ .Subscriber.FirstName }}",
            "lists": [self.list_id],
            "from_email": "bench <bench@bench.example>",
            "type": "regular",
            "content_type": "html",
            "messenger": "email",
            "template_id": self.template_id,
            "body": _BODY,
            "altbody": _TEXT,
        }
        campaign = (await self._ask("POST", "campaigns", json=fields))["id"]
        before = sink.received()
        began = time.perf_counter()
        await self._ask("PUT", f"campaigns/{campaign}/status", json={"status": "running"})
        seen_by = _Watch(sink)
        watching = asyncio.create_task(seen_by.run())
        try:
            while True:
                seen = await self._ask("GET", f"campaigns/{campaign}")
                if seen["status"] == "finished":
                    break
                if seen["status"] != "running":
                    raise StackError(f"listmonk's campaign is {seen['status']}")
                await asyncio.sleep(_STATUS_SECONDS)
            whole = time.perf_counter() - began
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        seconds = seen_by.last - seen_by.first
        sent: int = seen["sent"]
        if sent != seen["to_send"]:
            raise StackError(f"listmonk sent {sent} of {seen['to_send']}")
        report(
            f"listmonk: {sent / seconds:,.0f} mails/s, {sent / whole:,.0f} mails/s from start to finished, "
            f"{(sink.received() - before) // sent} bytes a mail"
        )
        return seconds, whole

    async def _ask(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        answer = await self.client.request(method, path, **more)
        if answer.is_error:
            raise StackError(f"listmonk says to {method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()["data"]


@dataclass(slots=True)
class _Watch:
    """Sees when the first and the last byte come to a sink."""

    sink: "Sink"
    first: float = 0.0
    last: float = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        before = self.sink.received()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self.sink.received()
            if now != before:
                self.last = time.perf_counter()
                self.first = self.first or self.last
                before = now
