"""An endpoint over an empty bus, and what tests of webhooks do to it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.webhooks import WebhookActivities
from contracts.webhooks import WOKEN, WORKFLOW, DeliverProgress, EndpointRef
from core.actor import CLI
from core.database import Database
from core.sealing import Seal
from core.settings import Settings
from integrations import outward
from models import WebhookDelivery, WebhookEndpoint
from relay.loop import Relay
from services.events.publish import NewEvent, publish
from services.events.webhooks import endpoints, writing
from tests.eventually import eventually
from workflows.webhook import WebhookWorkflow


@dataclass(slots=True)
class Hooking:
    """A tenant with one endpoint."""

    database: Database
    tenant_id: UUID
    endpoint_id: UUID
    secret: str
    settings: Settings

    @property
    def ref(self) -> EndpointRef:
        """The endpoint."""
        return EndpointRef(tenant_id=self.tenant_id, endpoint_id=self.endpoint_id)

    @asynccontextmanager
    async def activities(self) -> AsyncGenerator[WebhookActivities]:
        """Who posts."""
        async with outward.client(private=self.settings.allow_private_hosts) as client:
            yield WebhookActivities(self.database, self.settings, client)

    async def happened(self, *events: tuple[UUID, int], event_type: str = "order.placed") -> None:
        """Commit an event of each (subject, number), and have the bus read."""
        async with self.database.tenant(self.tenant_id) as session:
            told = [NewEvent(event_type, subject, "thing", properties={"n": number}) for subject, number in events]
            await publish(session, told)
        await self.read()

    async def read(self) -> None:
        """Have the consumer read all there is."""
        relay = Relay(self.database, [writing.CONSUMER])
        while await relay.step(writing.CONSUMER):
            pass

    async def post(self) -> DeliverProgress:
        """Post what is due."""
        async with self.activities() as activities:
            return await activities.work(self.ref)

    async def endpoint(self) -> WebhookEndpoint:
        """Return the endpoint as it stands."""
        async with self.database.tenant(self.tenant_id) as session:
            return await endpoints.get(session, self.endpoint_id)

    async def deliveries(self) -> Sequence[WebhookDelivery]:
        """Return what it was and is to be told, in order."""
        async with self.database.tenant(self.tenant_id) as session:
            rows = select(WebhookDelivery).where(WebhookDelivery.tenant_id == self.tenant_id)
            return (await session.scalars(rows.order_by(WebhookDelivery.position, WebhookDelivery.id))).all()

    async def due_now(self) -> None:
        """Have the time of all retries come."""
        async with self.database.tenant(self.tenant_id) as session:
            rows = update(WebhookDelivery).where(
                WebhookDelivery.tenant_id == self.tenant_id, WebhookDelivery.attempts > 0
            )
            await session.execute(rows.values(next_at=WebhookDelivery.created_at))

    async def failing_for(self, ago: timedelta) -> None:
        """Have the endpoint been failing for so long."""
        async with self.database.tenant(self.tenant_id) as session:
            row = update(WebhookEndpoint).where(WebhookEndpoint.tenant_id == self.tenant_id)
            await session.execute(row.values(failing_since=func.now() - ago))


async def hooking(
    database: Database, tenant_id: UUID, settings: Settings, url: str, *, types: Sequence[str] = ("*",), batch: int = 1
) -> Hooking:
    """Make an endpoint."""
    seal = Seal(settings.secret_key.get_secret_value())
    async with database.tenant(tenant_id) as session:
        endpoint, secret = await endpoints.create(
            session, url=url, event_types=types, description="", batch_size=batch, seal=seal, by=CLI
        )
    return Hooking(database, tenant_id, endpoint.id, secret, settings)


@dataclass(slots=True)
class Telling:
    """The workflow of an endpoint, on a task queue of the test's own."""

    hook: Hooking
    client: Client
    queue: str

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[None]:
        """Run a worker for webhooks alone."""
        async with (
            self.hook.activities() as activities,
            Worker(
                self.client,
                task_queue=self.queue,
                workflows=[WebhookWorkflow],
                activities=activities.all(),
                workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
            ),
        ):
            yield

    async def woken(self) -> WorkflowHandle[Any, Any]:
        """Begin the workflow, or wake it, as the relay would."""
        return await self.client.start_workflow(
            WORKFLOW,
            self.hook.ref,
            id=f"{WORKFLOW}/{self.hook.tenant_id}/{self.hook.endpoint_id}",
            task_queue=self.queue,
            start_signal=WOKEN,
        )

    async def told(self, count: int) -> None:
        """Wait until so many deliveries have been made."""

        async def made() -> bool:
            return sum(each.status == "delivered" for each in await self.hook.deliveries()) == count

        await eventually(made)

    async def waiting(self) -> None:
        """Wait until it sleeps."""

        async def idle() -> bool:
            return (await self.hook.endpoint()).idle

        await eventually(idle)


def telling(hook: Hooking, client: Client) -> Telling:
    """Return it with a queue of its own."""
    return Telling(hook, client, f"webhooks-{uuid4().hex}")
