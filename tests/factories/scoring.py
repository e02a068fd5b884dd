"""Everybody's scores recomputed by a real worker, on a task queue of the test's own."""

from typing import Any
from uuid import UUID, uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.scores import ScoreActivities
from contracts.scores import WORKFLOW, ScoresInput
from core.actor import CLI
from core.database import Database
from services.identity import score_rules
from workflows.scores import RecomputeScoresWorkflow


def scorer(client: Client, database: Database) -> Worker:
    """Return a worker for scores alone."""
    return Worker(
        client,
        task_queue=f"identity-{uuid4().hex}",
        workflows=[RecomputeScoresWorkflow],
        activities=ScoreActivities(database).all(),
    )


async def add_rule(database: Database, tenant_id: UUID, key: str, condition: dict[str, Any], points: int) -> None:
    """Add a rule to the tenant's."""
    rule = {"key": key, "name": key, "condition": condition, "points": points, "enabled": True}
    async with database.tenant(tenant_id) as session:
        await score_rules.create(session, rule, by=CLI)


async def begun(worker: Worker, tenant_id: UUID) -> WorkflowHandle[RecomputeScoresWorkflow, None]:
    """Start what a changed rule owes, as the relay would."""
    return await worker.client.start_workflow(
        RecomputeScoresWorkflow.run,
        ScoresInput(tenant_id=tenant_id, quiet=True),
        id=f"{WORKFLOW}/{tenant_id}/{uuid4()}",
        task_queue=worker.task_queue,
    )
