"""Searches for duplicates among made-up people, done by a real worker on a task queue of the test's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.duplicates import DuplicateActivities
from core.actor import CLI
from core.database import Database
from models import DuplicateRun
from relay.starts import WorkflowStarter
from services.identity import duplicates
from services.tenancy import tenants
from workflows.duplicates import FindDuplicatesWorkflow

_FILL = text("""
    WITH made AS (
      INSERT INTO person (tenant_id, id, email, first_name, last_name)
      SELECT :tenant AS tenant_id, tl_uuid7(),
             'person.' || CASE n % 10 WHEN 1 THEN n - 1 || '+x' ELSE n::text END || '@gmail.com',
             'First' || (n - (n % 10 = 1)::int) % 997, 'Last' || (n - (n % 10 = 1)::int) % 983
      FROM generate_series(0, :people - 1) AS n
      RETURNING id, email
    )
    INSERT INTO person_identifier (tenant_id, kind, value, person_id)
    SELECT :tenant AS tenant_id, 'email', email, id FROM made
""")


async def fill(database: Database, tenant_id: UUID, people: int) -> None:
    """Make people, one in ten of whom is another's second record."""
    async with database.tenant(tenant_id) as session:
        await session.execute(_FILL, {"tenant": tenant_id, "people": people})


@dataclass(frozen=True, slots=True)
class Searching:
    """A tenant's search; nothing else may be owed to Temporal in its database."""

    database: Database
    client: Client
    tenant_id: UUID
    run_id: UUID
    queue: str = field(default_factory=lambda: f"identity-{uuid4().hex}")

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """The workflow, once it is begun."""
        return self.client.get_workflow_handle(f"find_duplicates/{self.tenant_id}/{self.run_id}")

    def worker(self, activities: Sequence[Callable[..., Any]] = ()) -> Worker:
        """Return a worker, with activities of its own where some are given."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[FindDuplicatesWorkflow],
            activities=activities or DuplicateActivities(self.database).all(),
        )

    async def begin(self) -> None:
        """Start what is owed, on the test's queue."""
        async with self.database.system() as session:
            await session.execute(text("UPDATE workflow_start SET queue = :queue"), {"queue": self.queue})
        starter = WorkflowStarter(self.database, self.client)
        while await starter.once():  # others of this database may be owed before it
            pass

    async def row(self) -> DuplicateRun:
        """Return the search as it stands."""
        async with self.database.tenant(self.tenant_id) as session:
            return await duplicates.get_run(session, self.run_id)

    async def left(self) -> int:
        """Return how many rows the search has left behind."""
        async with self.database.tenant(self.tenant_id) as session:
            statement = text("SELECT count(*) FROM duplicate_block WHERE tenant_id = :tenant")
            return (await session.execute(statement, {"tenant": self.tenant_id})).scalar_one()


async def searching(database: Database, client: Client, people: int) -> Searching:
    """Begin a search among so many people of a new tenant."""
    async with database.system() as session:
        tenant_id = (await tenants.create(session, f"test-{uuid4().hex}", "Test")).id
    await fill(database, tenant_id, people)
    async with database.tenant(tenant_id) as session:
        run = await duplicates.start(session, by=CLI)
    search = Searching(database, client, tenant_id, run.id)
    await search.begin()
    return search
