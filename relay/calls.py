"""Making the calls of others' addresses that rows of `outgoing_call` owe."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import httpx

from core import tracing
from core.database import Database
from core.logging import get_logger
from core.settings import Settings
from core.wake import CALL_CHANNEL
from integrations import outward
from integrations.webhooks import posting
from integrations.webhooks.posting import Answer
from integrations.webhooks.signing import WebhookSecrets
from relay.repeating import work_off
from services.crm import calls
from services.crm.calls import DueCall

PAGE: Final = 20

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

            async def page() -> bool:
                return await self.once(client) == PAGE

            await work_off(self._database, CALL_CHANNEL, self._woken, page, stop, delayed="calls.delayed")

    async def once(self, client: httpx.AsyncClient) -> int:
        """Make one page of calls; return how many."""
        async with self._database.system() as session:
            due = await calls.take(session, limit=PAGE)
        await asyncio.gather(*(self._make(client, call) for call in due))
        return len(due)

    async def _make(self, client: httpx.AsyncClient, call: DueCall) -> None:
        with tracing.continued((call.trace,), "make call", attributes={tracing.TENANT: str(call.tenant_id)}):
            answer = await self._ask(client, call)
            async with self._database.tenant(call.tenant_id) as session:
                status = await calls.settle(session, call, answer)
        if status == "failed":
            log.warning("call.failed", tenant=str(call.tenant_id), call=str(call.id), answer=answer.get("status"))

    async def _ask(self, client: httpx.AsyncClient, call: DueCall) -> Answer:
        body = json.dumps(call.body, separators=(",", ":"), ensure_ascii=False).encode()
        secrets = (self._secrets.of(call.tenant_id),)
        return await posting.post(
            client, call.url, str(call.id), body, at=self._clock(), secrets=secrets, private=self._private
        )
