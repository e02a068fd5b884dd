"""Erasures carried through by a real worker, on a task queue of the test's own."""

from pathlib import Path
from uuid import UUID, uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.erasure import ErasureActivities
from contracts.erasure import WORKFLOW, ErasureInput
from core.actor import CLI
from core.address_hashes import AddressHashes
from core.database import Database
from models import Erasure
from services.identity import erasing
from workflows.erasure import ErasureWorkflow

HASHES = AddressHashes("a secret for tests, 32 letters or more")


async def erased(database: Database, tenant_id: UUID, person_id: UUID) -> Erasure:
    """Erase somebody, and commit it."""
    async with database.tenant(tenant_id) as session:
        return await erasing.erase(session, person_id, by=CLI, hashes=HASHES)


def eraser(client: Client, database: Database, mail_dir: Path, *, cached: int = 100) -> Worker:
    """Return a worker for erasures alone; with `cached=0` it replays each workflow with every task."""
    return Worker(
        client,
        task_queue=f"identity-{uuid4().hex}",
        workflows=[ErasureWorkflow],
        activities=ErasureActivities(database, mail_dir).all(),
        max_cached_workflows=cached,
    )


async def begun(worker: Worker, record: Erasure) -> WorkflowHandle[ErasureWorkflow, None]:
    """Start what the erasure left to do, as the relay would."""
    return await worker.client.start_workflow(
        ErasureWorkflow.run,
        ErasureInput(tenant_id=record.tenant_id, erasure_id=record.id),
        id=f"{WORKFLOW}/{record.tenant_id}/{record.id}",
        task_queue=worker.task_queue,
    )
