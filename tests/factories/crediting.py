"""Orders credited again by a real worker, on a task queue of the test's own."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import delete, insert, select
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Interceptor, Worker

from activities.attribution import AttributionActivities
from contracts.attribution import WORKFLOW, AttributionInput
from core.actor import CLI
from core.database import Database
from models import OrderFact, WorkflowStart
from services.marketing.outcomes import attribution
from tests.factories.marketing import Marketing
from workflows.attribution import RecomputeAttributionWorkflow

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def creditor(client: Client, database: Database, *, interceptors: Sequence[Interceptor] = ()) -> Worker:
    """Return a worker for attribution alone."""
    return Worker(
        client,
        task_queue=f"marketing-{uuid4().hex}",
        workflows=[RecomputeAttributionWorkflow],
        activities=AttributionActivities(database).all(),
        interceptors=interceptors,
    )


async def bought(marketing: Marketing, buyers: int) -> None:
    """Add people who bought for a euro each at `NOW`."""
    people = await marketing.people(buyers)
    facts = [
        {
            "tenant_id": marketing.tenant_id,
            "order_key": str(each),
            "person_id": each,
            "currency": "EUR",
            "total_minor": 100,
            "refunded_minor": 0,
            "placed_at": NOW,
        }
        for each in people
    ]
    async with marketing.session() as session:
        await session.execute(insert(OrderFact), facts)


async def begun(worker: Worker, marketing: Marketing) -> WorkflowHandle[RecomputeAttributionWorkflow, None]:
    """Have all orders around `NOW` credited again, and start what that owes as the relay would."""
    day = timedelta(days=1)
    async with marketing.session() as session:
        await attribution.recompute(session, since=NOW - day, until=NOW + day, by=CLI)
    owed = select(WorkflowStart).where(
        WorkflowStart.tenant_id == marketing.tenant_id, WorkflowStart.workflow == WORKFLOW
    )
    async with marketing.session() as session:
        start = (await session.scalars(owed)).one()
        await session.execute(delete(WorkflowStart).where(WorkflowStart.tenant_id == marketing.tenant_id))
    return await worker.client.start_workflow(
        RecomputeAttributionWorkflow.run,
        AttributionInput.model_validate(start.input),
        id=start.workflow_id,
        task_queue=worker.task_queue,
    )
