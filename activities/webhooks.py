"""The activity of webhooks: deliveries that are due are posted, in order, and what came of it is noted."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import httpx
from temporalio import activity

from activities.heartbeats import alive
from contracts.webhooks import DELIVER, DeliverProgress, EndpointRef
from core import tracing
from core.database import Database
from core.metrics import WEBHOOK_DELIVERIES
from core.sealing import Seal
from core.settings import Settings
from integrations.webhooks import posting
from integrations.webhooks.posting import Answer
from services.events.webhooks import sending
from services.events.webhooks.sending import Attempted, Claimed, Due, SupersededError

LANES: Final = 20
"""Requests to one endpoint at a time. A subject has its lane, so that its events stay in order."""
PAGE: Final = 200
"""Deliveries, or as many full batches for each lane, between two notes of what came of them: as many may be repeated
after a crash."""
PAGE_SECONDS: Final = 10.0
"""No request of a page is begun after so long."""
SLICE_SECONDS: Final = 60.0
"""After so long the activity returns, and is called again."""


class WebhookActivities:
    """Posts to endpoints, for one process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Post what `database` holds by `client`, of `integrations.outward`; `clock` gives the time that is signed."""
        self._database = database
        self._client = client
        self._seal = Seal(settings.secret_key.get_secret_value())
        self._private = settings.allow_private_hosts
        self._clock = clock

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.deliver]

    @activity.defn(name=DELIVER)
    async def deliver(self, ref: EndpointRef) -> DeliverProgress:
        """Post what is due until nothing is, or a minute is over. Repeated, it goes on where the last one noted."""
        async with alive():
            return await self.work(ref)

    async def work(self, ref: EndpointRef) -> DeliverProgress:
        """As `deliver`, without Temporal."""
        async with self._database.tenant(ref.tenant_id) as session:
            if not await sending.exists(session, ref.endpoint_id):
                return DeliverProgress(gone=True)
            endpoint = await sending.claim(session, ref.endpoint_id, self._seal)
        if endpoint is None:
            return DeliverProgress()
        try:
            return await self._pages(ref, endpoint)
        except SupersededError:
            return DeliverProgress(more=True)

    async def _pages(self, ref: EndpointRef, endpoint: Claimed) -> DeliverProgress:
        ends = time.monotonic() + SLICE_SECONDS
        while time.monotonic() < ends:
            async with self._database.tenant(ref.tenant_id) as session:
                due = await sending.take(session, endpoint, limit=max(PAGE, LANES * endpoint.batch_size))
                if not due:
                    resting, next_at = await sending.rest(session, endpoint)
                    if resting:
                        return DeliverProgress(next_at=next_at)
            attempted = await self._post_all(endpoint, due)
            if attempted:
                async with self._database.tenant(ref.tenant_id) as session:
                    goes_on = await sending.settle(session, endpoint, attempted)
                _count(attempted)
                if not goes_on:
                    return DeliverProgress()
        return DeliverProgress(more=True)

    async def _post_all(self, endpoint: Claimed, due: Sequence[Due]) -> list[Attempted]:
        lanes: dict[int, list[Due]] = {}
        for each in due:
            lanes.setdefault(each.subject_id.int % LANES, []).append(each)
        ends = time.monotonic() + PAGE_SECONDS
        found = await asyncio.gather(*(self._lane(endpoint, lane, ends) for lane in lanes.values()))
        return [each for part in found for each in part]

    async def _lane(self, endpoint: Claimed, due: Sequence[Due], ends: float) -> list[Attempted]:
        """Post one lane's deliveries, one request after another, up to the first that is not taken."""
        attempted: list[Attempted] = []
        for batch in batches(due, endpoint.batch_size):
            if time.monotonic() > ends:
                break
            began = time.monotonic()
            answer = await self._post(endpoint, batch)
            noted = {**answer, "ms": round((time.monotonic() - began) * 1_000)}
            attempted += [Attempted(each, noted) for each in batch]
            if sending.refused(answer):
                break
        return attempted

    async def _post(self, endpoint: Claimed, batch: Sequence[Due]) -> Answer:
        told = {tracing.ENDPOINT: str(endpoint.id), tracing.COUNT: len(batch)}
        with tracing.continued((each.trace for each in batch), "deliver webhook", attributes=told):
            return await posting.post(
                self._client,
                endpoint.url,
                message_id(batch),
                body_of(batch, batched=endpoint.batch_size > 1, at=self._clock()),
                at=self._clock(),
                secrets=endpoint.secrets,
                private=self._private,
            )


def _count(attempted: Sequence[Attempted]) -> None:
    for each in attempted:
        if not sending.refused(each.answer):
            result = "delivered"
        else:
            result = "refused" if "status" in each.answer else "unreachable"
        WEBHOOK_DELIVERIES.labels(result).inc()


def batches(due: Sequence[Due], size: int) -> list[Sequence[Due]]:
    """Split a lane into requests: what failed before goes alone, as it may be the one that others failed with."""
    split: list[Sequence[Due]] = []
    for alone, group in groupby(due, key=lambda each: each.attempts > 0):
        items = list(group)
        width = 1 if alone else size
        split += [items[start : start + width] for start in range(0, len(items), width)]
    return split


def message_id(batch: Sequence[Due]) -> str:
    """Return the header `webhook-id`: the delivery's id; of several one made from theirs, so that a repeat is known."""
    if len(batch) == 1:
        return str(batch[0].id)
    return str(uuid5(NAMESPACE_URL, ",".join(str(each.id) for each in batch)))


def body_of(batch: Sequence[Due], *, batched: bool, at: datetime) -> bytes:
    """Return what is posted: the event, or with `batched` a list of them."""
    if not batched:
        return batch[0].message.encode()
    told = ",".join(each.message for each in batch)
    return f'{{"type": "batch", "timestamp": "{at.isoformat()}", "data": [{told}]}}'.encode()
