"""Workflows owed by rows are started once, whatever dies in between."""

from uuid import uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select
from temporalio import workflow
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from core.database import Database
from core.ids import new_id
from models import WorkflowStart
from relay.starts import PAGE, WorkflowStarter
from services.shared import starts
from services.tenancy import tenants


class Order(BaseModel):
    number: int


@workflow.defn(name="test_owed")
class Owed:
    @workflow.run
    async def run(self, order: Order) -> int:
        return order.number


@workflow.defn(name="test_told")
class Told:
    def __init__(self) -> None:
        self.told = 0

    @workflow.run
    async def run(self, order: Order) -> int:
        await workflow.wait_condition(lambda: self.told == order.number)
        return self.told

    @workflow.signal
    def wake(self) -> None:
        self.told += 1


async def owed(database: Database) -> int:
    async with database.system() as session:
        return await session.scalar(select(func.count()).select_from(WorkflowStart)) or 0


async def test_a_workflow_owed_twice_runs_once(
    empty_database_url: str, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_database_url)
    queue = f"test-{uuid4().hex}"
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    entity_id = new_id()
    async with database.tenant(tenant_id) as session:
        for number in (1, 2):
            workflow_id = await starts.owe(
                session, workflow="test_owed", entity_id=entity_id, input=Order(number=number), domain=queue
            )
    starter = WorkflowStarter(database, temporal_client)
    async with Worker(temporal_client, task_queue=queue, workflows=[Owed], workflow_runner=UnsandboxedWorkflowRunner()):
        await starter.once()
        assert await temporal_client.get_workflow_handle(workflow_id).result() in {1, 2}
        assert await owed(database) == 0
        async with database.tenant(tenant_id) as session:
            await starts.owe(session, workflow="test_owed", entity_id=entity_id, input=Order(number=3), domain=queue)
        await starter.once()  # as after a crash between the start and its commit
    assert await owed(database) == 0
    assert await temporal_client.get_workflow_handle(workflow_id).result() in {1, 2}
    await database.close()


async def test_one_that_runs_already_is_told_and_one_that_ended_stays_so(
    empty_database_url: str, temporal_client: Client
) -> None:
    database = Database(empty_database_url)
    queue = f"test-{uuid4().hex}"
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    entity_id = new_id()
    starter = WorkflowStarter(database, temporal_client)

    async def owe(signal: str | None) -> str:
        async with database.tenant(tenant_id) as session:
            made = await starts.owe(
                session, workflow="test_told", entity_id=entity_id, input=Order(number=2), domain=queue, signal=signal
            )
        await starter.once()
        return made

    async with Worker(temporal_client, task_queue=queue, workflows=[Told], workflow_runner=UnsandboxedWorkflowRunner()):
        workflow_id = await owe(None)
        await owe("wake")
        await owe("wake")
        assert await temporal_client.get_workflow_handle(workflow_id).result() == 2
        await owe("wake")
    assert await owed(database) == 0
    assert await temporal_client.get_workflow_handle(workflow_id).result() == 2
    await database.close()


async def test_what_is_rolled_back_is_not_owed(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    async with database.tenant(tenant_id) as session:
        await starts.owe(session, workflow="test_owed", entity_id=new_id(), input=Order(number=1))
        await session.rollback()
    assert await owed(database) == 0
    await database.close()


async def test_starts_that_are_refused_hold_up_nobody_and_are_not_hammered(
    empty_database_url: str, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_database_url)
    queue = f"test-{uuid4().hex}"
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    async with database.tenant(tenant_id) as session:
        for number in range(PAGE):
            # longer than any queue's name that Temporal takes
            bad = "q" * 1_200
            await starts.owe(session, workflow="test_owed", entity_id=new_id(), input=Order(number=number), domain=bad)
    async with database.tenant(tenant_id) as session:
        workflow_id = await starts.owe(
            session, workflow="test_owed", entity_id=new_id(), input=Order(number=7), domain=queue
        )
    now = 0.0
    asked: list[str] = []
    start = WorkflowStarter._start  # pyright: ignore[reportPrivateUsage]  # seen from inside

    async def seen(self: WorkflowStarter, row: WorkflowStart) -> None:
        asked.append(row.workflow_id)
        await start(self, row)

    monkeypatch.setattr(WorkflowStarter, "_start", seen)
    starter = WorkflowStarter(database, temporal_client, clock=lambda: now)
    assert await starter.once()
    assert not await starter.once()
    assert asked[PAGE:] == [workflow_id]
    assert await temporal_client.get_workflow_handle(workflow_id).describe()
    assert await owed(database) == PAGE
    tries: list[int] = []
    for now in (0.9, 1.1, 2.9, 3.2):  # noqa: B007 - the starter reads it
        asked.clear()
        await starter.once()
        tries.append(len(asked))
    assert tries == [0, PAGE, 0, PAGE]
    await temporal_client.get_workflow_handle(workflow_id).terminate()
    await database.close()


async def test_an_outage_forgets_what_was_started_and_delays_the_rest(
    empty_database_url: str, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    async with database.tenant(tenant_id) as session:
        for number in (1, 2):
            await starts.owe(session, workflow="test_owed", entity_id=new_id(), input=Order(number=number))
    down = True

    async def start(self: WorkflowStarter, row: WorkflowStart) -> None:
        if down and row.input["number"] == 1:
            raise RPCError("gone", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(WorkflowStarter, "_start", start)
    starter = WorkflowStarter(database, temporal_client)
    with pytest.raises(RPCError):
        await starter.once()
    assert await owed(database) == 1
    down = False
    await starter.once()
    assert await owed(database) == 0
    await database.close()
