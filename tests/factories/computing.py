"""Segments computed by a real Temporal worker, on a task queue of the test's own."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.segments import SegmentActivities
from contracts.segments import WORKFLOW, RefreshInput
from core.actor import CLI
from models import Segment, SegmentRefresh
from services.marketing.segments import definitions, refreshing, runs
from tests.factories.segmenting import Segments
from workflows.segment_refresh import SegmentRefreshWorkflow


@dataclass(frozen=True, slots=True)
class Computing:
    """A tenant's segments, with what computes them."""

    segments: Segments
    client: Client
    queue: str

    def worker(self) -> Worker:
        """Return a worker for segments alone."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[SegmentRefreshWorkflow],
            activities=SegmentActivities(self.segments.marketing.database).all(),
            workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        )

    async def add(self, key: str, **fields: Any) -> Segment:  # noqa: ANN401 - a segment's
        """Make a dynamic segment that is not computed yet."""
        async with self.segments.session() as session:
            return await definitions.create(session, {"key": key, "name": key, "kind": "dynamic", **fields}, by=CLI)

    async def owe(self, key: str) -> UUID:
        """Have it computed as when somebody asks for it; return the computation's id."""
        async with self.segments.session() as session:
            segment = await definitions.find(session, key)
            return (await refreshing.owe(session, segment, cause="manual", quiet=False, by=CLI)).id

    async def run(self, key: str) -> SegmentRefresh:
        """Return the last computation of a segment as it stands."""
        async with self.segments.session() as session:
            segment = await definitions.find(session, key)
            return (await runs.page(session, segment.id, limit=1, before=None))[0]

    async def start(self, segment_id: UUID, run_id: UUID | None) -> WorkflowHandle[Any, Any]:
        """Start the workflow of a computation, as the relay would; without a run, as a schedule would."""
        wanted = RefreshInput(tenant_id=self.segments.tenant_id, segment_id=segment_id, run_id=run_id)
        workflow_id = f"{WORKFLOW}/{self.segments.tenant_id}/{uuid4()}"
        return await self.client.start_workflow(WORKFLOW, wanted, id=workflow_id, task_queue=self.queue)

    async def begin(self, key: str) -> WorkflowHandle[Any, Any]:
        """Start the workflow of the computation that is owed."""
        run = await self.run(key)
        return await self.start(run.segment_id, run.id)

    async def statuses(self) -> list[str]:
        """Return the status of every computation, oldest first."""
        async with self.segments.session() as session:
            query = select(SegmentRefresh.status).where(SegmentRefresh.tenant_id == self.segments.tenant_id)
            return list(await session.scalars(query.order_by(SegmentRefresh.id)))


def computing(segments: Segments, client: Client) -> Computing:
    """Return it with a queue of its own."""
    return Computing(segments, client, f"marketing-{uuid4().hex}")
