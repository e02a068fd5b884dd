"""Making the calls of others' addresses that rows of `outgoing_call` owe."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from core.database import Database
from core.logging import get_logger
from core.settings import Settings
from core.waiting import any_of
from core.wake import CALL_CHANNEL
from integrations import outward
from integrations.webhooks import signing
from integrations.webhooks.signing import WebhookSecrets
from services.crm import calls
from services.crm.calls import DueCall

PAGE: Final = 20
SWEEP_SECONDS: Final = 1.0
"""Without being woken, look this often for what is due."""
ANSWER_SECONDS: Final = 20.0
"""Within a call's lease, so that nobody else has taken it."""
_READ: Final = 4_096
"""Bytes of an answer that are looked at."""

log = get_logger(__name__)


class CallMaker:
    """Makes calls that are due. Killed at any point, it leaves them to be made again after their lease."""

    def __init__(
        self, database: Database, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Make calls of `database`; `clock` gives the time that is signed."""
        self._database = database
        self._secrets = WebhookSecrets(settings.secret_key.get_secret_value())
        self._private = settings.allow_private_hosts
        self._clock = clock
        self._woken = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres only delays."""
        async with outward.client(private=self._private) as client:
            while not stop.is_set():
                try:
                    async with self._database.listen(CALL_CHANNEL, self._woken.set) as lost:
                        while not stop.is_set() and not lost.is_set():
                            self._woken.clear()
                            if await self.once(client) < PAGE:
                                await any_of(stop, self._woken, seconds=SWEEP_SECONDS)
                except Exception as error:  # noqa: BLE001 - whatever it was, what is owed stays owed
                    log.warning("calls.delayed", error=type(error).__name__)
                    await any_of(stop, seconds=SWEEP_SECONDS)

    async def once(self, client: httpx.AsyncClient) -> int:
        """Make one page of calls; return how many."""
        async with self._database.system() as session:
            due = await calls.take(session, limit=PAGE)
        await asyncio.gather(*(self._make(client, call) for call in due))
        return len(due)

    async def _make(self, client: httpx.AsyncClient, call: DueCall) -> None:
        answer = await self._ask(client, call)
        async with self._database.system() as session:
            status = await calls.settle(session, call, answer)
        if status == "failed":
            log.warning("call.failed", tenant=str(call.tenant_id), call=str(call.id), answer=answer.get("status"))

    async def _ask(self, client: httpx.AsyncClient, call: DueCall) -> dict[str, Any]:
        body = json.dumps(call.body, separators=(",", ":"), ensure_ascii=False).encode()
        signed = signing.headers(str(call.id), self._clock(), body, self._secrets.of(call.tenant_id))
        named = {"Content-Type": "application/json", "User-Agent": "throughline", **signed}
        try:
            outward.check_url(call.url, private=self._private)
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                client.stream("POST", call.url, content=body, headers=named) as response,
            ):
                return {"status": response.status_code, "body": await _beginning(response)} | _asked_pause(response)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, TimeoutError) as error:
            return {"error": f"{type(error).__name__}: {error}".rstrip(": ")}


async def _beginning(response: httpx.Response) -> str:
    read = b""
    async for part in response.aiter_raw():
        read += part
        if len(read) >= _READ:
            break
    return read[:_READ].decode("utf-8", "replace").replace("\0", "")


def _asked_pause(response: httpx.Response) -> dict[str, int]:
    """How long the receiver asks us to wait, in seconds; a date is not looked at."""
    text = response.headers.get("Retry-After", "")
    return {"retry_after": int(text)} if text.isascii() and text.isdigit() and len(text) < len("1000000") else {}
