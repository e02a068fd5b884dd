"""`webhooks`: events on the bus until a local receiver has taken them all, against one workflow per delivery.

Ours writes the deliveries, posts them by its workflow and notes the answers: in batches of 100, and beside it alone.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
from sqlalchemy import func, select, text
from temporalio import activity
from temporalio.worker import Worker

from activities.webhooks import WebhookActivities
from bench.bare_webhook import POST, One, OneDeliveryWorkflow
from bench.harness import FULL, Ratio, Report, Servers, Tenant, tenant
from core.actor import CLI
from core.database import Database
from core.ids import new_ids
from core.sealing import Seal
from core.settings import Settings
from integrations import outward
from integrations.webhooks import posting
from models import WebhookDelivery, WebhookEndpoint
from relay.loop import Relay
from relay.starts import WorkflowStarter
from services.events.publish import NewEvent, publish
from services.events.webhooks import endpoints, writing
from worker import webhook_worker

EVENTS = 100_000 if FULL else 20_000
ALONE = 2_000
SAMPLE = 300
AT_ONCE = 20
_POLL_SECONDS = 0.02
_PAGE = 2_000


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    settings = running.settings.model_copy(update={"allow_private_hosts": True})
    with _receiver() as url:
        async with tenant(running, "webhooks") as bench:
            batched = await _ours(bench, settings, url, count=EVENTS, batch=100)
            alone = await _ours(bench, settings, url, count=ALONE, batch=1)
            single = await _one_by_one(bench, url)
    report(
        f"deliveries a second: {EVENTS / batched:,.0f} in batches of 100, {ALONE / alone:,.0f} one by one,"
        f" {SAMPLE / single:,.1f} by a workflow each"
    )
    return [Ratio("webhooks", (EVENTS / batched) / (SAMPLE / single), 300, at_least=True)]


@contextmanager
def _receiver() -> Generator[str]:
    with subprocess.Popen([sys.executable, "-m", "bench.receiver"], stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("no output")
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/hook"
        finally:
            process.terminate()


async def _endpoint(bench: Tenant, settings: Settings, url: str, batch: int) -> UUID:
    seal = Seal(settings.secret_key.get_secret_value())
    async with bench.database.tenant(bench.id) as session:
        made, _ = await endpoints.create(
            session, url=url, event_types=["order.*"], description="", batch_size=batch, seal=seal, by=CLI
        )
    return made.id


async def _ours(bench: Tenant, settings: Settings, url: str, *, count: int, batch: int) -> float:
    endpoint_id = await _endpoint(bench, settings, url, batch)
    stop = asyncio.Event()
    relay = Relay(bench.database, [writing.CONSUMER])
    starter = WorkflowStarter(bench.database, bench.client)
    for start in range(0, count, _PAGE):
        subjects = new_ids(min(_PAGE, count - start))
        async with bench.database.tenant(bench.id) as session:
            placed = [
                NewEvent("order.placed", subject, "thing", properties={"total": "100.00", "currency": "EUR"})
                for subject in subjects
            ]
            await publish(session, placed)
    told = select(func.count()).where(
        WebhookDelivery.tenant_id == bench.id,
        WebhookDelivery.endpoint_id == endpoint_id,
        WebhookDelivery.status == "delivered",
    )
    # Counting all of them at each look would be a quarter of what Postgres has to do.
    idle = select(WebhookEndpoint.idle).where(WebhookEndpoint.tenant_id == bench.id, WebhookEndpoint.id == endpoint_id)
    async with (
        outward.client(private=True) as client,
        webhook_worker(bench.client, WebhookActivities(bench.database, settings, client).all()),
    ):
        began = time.perf_counter()
        running = [asyncio.create_task(relay.run(stop)), asyncio.create_task(starter.run(stop))]
        while True:
            async with bench.database.tenant(bench.id) as session:
                if await session.scalar(idle) and (await session.scalar(told) or 0) >= count:
                    break
            await asyncio.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - began
        stop.set()
        await asyncio.gather(*running)
        async with bench.database.tenant(bench.id) as session:
            await endpoints.delete(session, endpoint_id, by=CLI)
    return seconds


async def _one_by_one(bench: Tenant, url: str) -> float:
    queue = f"bench-{uuid4().hex}"
    secret = "whsec_" + "A" * 44
    body = '{"type":"order.placed","data":{"properties":{"total":"100.00","currency":"EUR"}}}'
    places = asyncio.Semaphore(AT_ONCE)
    async with outward.client(private=True) as client:
        worker = Worker(
            bench.client,
            task_queue=queue,
            workflows=[OneDeliveryWorkflow],
            activities=[_Poster(bench.database, client).post],
            max_concurrent_activities=AT_ONCE,
        )

        async def one(delivery_id: UUID) -> None:
            async with places:
                await bench.client.execute_workflow(
                    OneDeliveryWorkflow.run,
                    One(tenant_id=bench.id, delivery_id=delivery_id, url=url, body=body, secret=secret),
                    id=str(delivery_id),
                    task_queue=queue,
                )

        async with worker:
            await asyncio.gather(*(one(each) for each in new_ids(AT_ONCE)))
            began = time.perf_counter()
            await asyncio.gather(*(one(each) for each in new_ids(SAMPLE)))
            return time.perf_counter() - began


class _Poster:
    """Posts by a client that is kept, and notes it in a transaction of its own."""

    def __init__(self, database: Database, client: httpx.AsyncClient) -> None:
        self._database = database
        self._client = client

    @activity.defn(name=POST)
    async def post(self, one: One) -> None:
        """Post and note."""
        answer = await posting.post(
            self._client,
            one.url,
            str(one.delivery_id),
            one.body.encode(),
            at=datetime.now(UTC),
            secrets=(one.secret,),
            private=True,
        )
        if "error" in answer:
            raise RuntimeError(answer["error"])
        async with self._database.tenant(one.tenant_id) as session:
            await session.execute(
                text("""
                    UPDATE webhook_delivery SET status = 'delivered', attempts = 1, finished_at = now()
                    WHERE tenant_id = :tenant AND id = :id
                """),
                {"tenant": one.tenant_id, "id": one.delivery_id},
            )
