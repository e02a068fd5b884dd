"""Journeys walked by a real Temporal worker, on a task queue of the test's own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import (
    Interceptor,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities.journey_migration import MigrationActivities
from activities.journeys import JourneyActivities
from contracts.journey_migration import WORKFLOW as MIGRATION
from contracts.journey_migration import MigrationRef
from contracts.journeys import PROGRESS, SIGNAL, CohortRef, Told
from journeys.members import encode, everyone, from_slots
from journeys.state import Summary
from relay import cohorts as relay_cohorts
from relay.cohorts import CohortStarter
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.crm import journey_nodes
from services.journeys import migrating
from services.marketing import journey_sends
from tests.eventually import eventually
from tests.factories.marketing import Marketing, Walking
from workflows.deal_stage import DealStageWorkflow
from workflows.journey import JourneyWorkflow
from workflows.journey_migration import JourneyMigrationWorkflow


@dataclass
class Platform:
    """What runs beside the API: worker, starter of cohorts, relay; each moved by the test."""

    marketing: Marketing
    client: Client
    queue: str
    wakes: int = field(default=0)
    """How often a step woke the sender."""
    page: int = migrating.PAGE
    """People a migration moves at a time."""

    def worker(self, *, cached: int = 100, interceptors: Sequence[Interceptor] = ()) -> Worker:
        """Return a worker; with `cached=0` it replays each workflow from its history with every task."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[JourneyWorkflow, JourneyMigrationWorkflow],
            activities=[
                *JourneyActivities(self.marketing.database, journey_sends.ACTIONS, self._wake_sender).all(),
                *MigrationActivities(self.marketing.database, page=self.page).all(),
            ],
            max_cached_workflows=cached,
            interceptors=interceptors,
        )

    def crm_worker(self) -> Worker:
        """Return a worker of sales."""
        return Worker(
            self.client,
            task_queue=f"crm-{self.queue}",
            workflows=[DealStageWorkflow],
            activities=JourneyActivities(self.marketing.database, journey_nodes.ACTIONS, self._wake_sender).all(),
        )

    def _wake_sender(self) -> None:
        self.wakes += 1

    async def deliver(self) -> None:
        """Start the cohorts and deliver the signals that are owed."""
        starter = CohortStarter(self.marketing.database, self.client, eager=False)
        while await starter.once():
            pass

    async def migrate(self, migration_id: UUID) -> str:
        """Have people moved, start their cohorts, and return the workflow's id."""
        ref = MigrationRef(tenant_id=self.marketing.tenant_id, migration_id=migration_id)
        workflow_id = f"journey_migration/{self.marketing.tenant_id}/{migration_id}"
        async with asyncio.timeout(60):
            await self.client.execute_workflow(MIGRATION, ref, id=workflow_id, task_queue=self.queue)
        await self.deliver()
        return workflow_id

    async def relay(self) -> None:
        """Feed all consumers what is on the bus, then deliver what they owe."""
        await self.relay_only()
        await self.deliver()

    async def relay_only(self) -> None:
        """Feed all consumers what is on the bus, and leave owed what they owe."""
        relay = Relay(self.marketing.database, CONSUMERS)
        moved = True
        while moved:
            moved = any([await relay.step(consumer) for consumer in CONSUMERS])

    @asynccontextmanager
    async def relaying(self) -> AsyncGenerator[None]:
        """Run relay and starter as a worker process does."""
        stop = asyncio.Event()
        starter = CohortStarter(self.marketing.database, self.client, eager=False)
        relay = Relay(self.marketing.database, CONSUMERS, on_committed=starter.committed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(relay.run(stop))
            tasks.create_task(starter.run(stop))
            try:
                yield
            finally:
                stop.set()

    def handle(self, cohort: Walking, run_id: str | None = None) -> WorkflowHandle[Any, Any]:
        """Return the cohort's workflow."""
        return self.client.get_workflow_handle(self.reference(cohort).workflow_id, run_id=run_id)

    @staticmethod
    def reference(cohort: Walking) -> CohortRef:
        """Return the cohort as contracts name it."""
        return CohortRef.model_validate(
            {
                "tenant_id": cohort.marketing.tenant_id,
                "journey_id": cohort.version.journey_id,
                "cohort_id": cohort.cohort_id,
                "domain": cohort.version.domain,
            }
        )

    async def progress(self, cohort: Walking) -> Summary:
        """Ask the workflow where its members are."""
        return await self.handle(cohort).query(PROGRESS, result_type=Summary)

    async def settled(self, cohort: Walking, **nodes: dict[str, int]) -> Summary:
        """Return the progress once exactly these counts stand at these nodes: `wait={"waiting": 2}`."""

        async def look() -> Summary | None:
            progress = await self.progress(cohort)
            here = {
                node: {what: number for what in type(count).__slots__ if (number := getattr(count, what))}
                for node, count in progress.nodes.items()
            }
            return progress if here == nodes else None

        return await eventually(look)

    async def finished(self, cohort: Walking) -> None:
        """Return when the cohort's workflow has ended, following it through continue-as-new."""
        async with asyncio.timeout(60):
            await self.handle(cohort).result()

    async def tell(self, cohort: Walking, told: Told) -> None:
        """Signal the workflow."""
        await self.handle(cohort).signal(SIGNAL, told)


def members(cohort: Walking, *slots: int) -> str:
    """Return the text of these slots, of all without any."""
    return encode(from_slots(slots) if slots else everyone(cohort.size), cohort.size)


class _Hasty(workflow.Info):
    """As the server's answer would be, were histories of a dozen events long ones."""

    def is_continue_as_new_suggested(self) -> bool:
        """Whether to go on in a new run."""
        return self.get_current_history_length() > 12


class _HastyOutbound(WorkflowOutboundInterceptor):
    def info(self) -> workflow.Info:
        """What the workflow is told about itself."""
        info = super().info()
        return _Hasty(**{field.name: getattr(info, field.name) for field in fields(info)})


class _HastyInbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_HastyOutbound(outbound))


class Hasty(Interceptor):
    """Has the server suggest continue-as-new early."""

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:  # noqa: A002 - the SDK's word
        return _HastyInbound


@asynccontextmanager
async def platform(marketing: Marketing, client: Client) -> AsyncGenerator[Platform]:
    """Lend a platform whose cohorts are started on a task queue of its own."""
    queue = f"marketing-{uuid4().hex}"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(relay_cohorts, "MARKETING_QUEUE", queue)
        monkeypatch.setattr(relay_cohorts, "CRM_QUEUE", f"crm-{queue}")
        yield Platform(marketing, client, queue)
