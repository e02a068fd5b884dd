"""Temporal has the schedules that rows say, whatever dies in between and whatever Temporal refuses or forgets."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import BaseModel
from sqlalchemy import delete, func, select, text, update
from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleOverlapPolicy,
)
from temporalio.common import TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from core.database import Database
from core.errors import InvalidError
from core.ids import new_id
from core.temporal import DOMAIN, TENANT_ID
from models import WorkflowSchedule
from relay.schedules import CATCH_UP, PAGE, ScheduleKeeper
from services.shared import schedules
from services.tenancy import tenants
from tests.eventually import eventually
from tests.services.identity.statements import indexes, recorded


class Order(BaseModel):
    number: int


@workflow.defn(name="test_scheduled")
class Scheduled:
    @workflow.run
    async def run(self, order: Order) -> int:
        return order.number


Then = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Owing:
    """A tenant in a database of its own, and what keeps its schedules."""

    database: Database
    client: Client
    tenant_id: UUID
    queue: str

    def keeper(self, clock: Callable[[], float] = time.monotonic) -> ScheduleKeeper:
        return ScheduleKeeper(self.database, self.client, clock=clock)

    def on_create(
        self, patch: pytest.MonkeyPatch, *, before: Callable[[str], None] | None = None, after: Then | None = None
    ) -> None:
        """Look on, or break it, where Temporal is asked to create a schedule."""
        create = self.client.create_schedule

        async def watched(name: str, schedule: Schedule, *, search_attributes: TypedSearchAttributes) -> ScheduleHandle:
            if before is not None:
                before(name)
            handle = await create(name, schedule, search_attributes=search_attributes)
            if after is not None:
                await after()
            return handle

        patch.setattr(self.client, "create_schedule", watched)

    async def keep(
        self, entity_id: UUID, cron: str = "0 9 * * 1", zone: str = "Europe/Berlin", number: int = 7
    ) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await schedules.keep(
                session,
                workflow="test_scheduled",
                entity_id=entity_id,
                input=Order(number=number),
                cron=cron,
                time_zone=zone,
                domain=self.queue,
            )

    async def drop(self, entity_id: UUID) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await schedules.drop(session, entity_id=entity_id)

    async def rows(self) -> list[WorkflowSchedule]:
        async with self.database.system() as session:
            return list(await session.scalars(select(WorkflowSchedule).order_by(WorkflowSchedule.created_at)))

    async def owed(self) -> int:
        return sum(row.applied_revision != row.revision for row in await self.rows())

    async def forget_applied(self) -> None:
        """As if the process had died between the call and its commit."""
        async with self.database.system() as session:
            await session.execute(update(WorkflowSchedule).values(applied_revision=None))

    async def break_cron(self, entity_id: UUID) -> None:
        """Make it one that only Temporal looks at."""
        async with self.database.system() as session:
            await session.execute(
                update(WorkflowSchedule).where(WorkflowSchedule.id == entity_id).values(cron="0 0 99 * *")
            )

    def handle(self, entity_id: UUID) -> ScheduleHandle:
        return self.client.get_schedule_handle(f"test_scheduled/{self.tenant_id}/{entity_id}")

    async def described(self, entity_id: UUID) -> ScheduleDescription | None:
        try:
            return await self.handle(entity_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def is_listed(self, entity_id: UUID, note: str) -> bool:
        async for found in await self.client.list_schedules():
            if found.id == self.handle(entity_id).id:
                return found.schedule is not None and found.schedule.state.note == note
        return False


@pytest.fixture
async def owing(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Owing]:
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    owing = Owing(database, temporal_client, tenant_id, f"test-{uuid4().hex}")
    yield owing
    for row in await owing.rows():
        if await owing.described(row.id) is not None:
            await owing.handle(row.id).delete()
    await database.close()


def minutes_and_zone(described: ScheduleDescription | None) -> tuple[list[int], list[int], str | None]:
    assert described is not None
    spec = described.schedule.spec
    (calendar,) = spec.calendars
    return [each.start for each in calendar.minute], [each.start for each in calendar.hour], spec.time_zone_name


async def test_a_schedule_is_created_changed_and_deleted(owing: Owing) -> None:
    entity_id, keeper = new_id(), owing.keeper()
    await owing.keep(entity_id)
    await keeper.once()
    described = await owing.described(entity_id)
    assert minutes_and_zone(described) == ([0], [9], "Europe/Berlin")
    assert described is not None
    assert described.schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert described.schedule.policy.catchup_window == CATCH_UP
    assert isinstance(described.schedule.action, ScheduleActionStartWorkflow)
    assert described.schedule.action.task_queue == owing.queue
    assert described.typed_search_attributes[TENANT_ID] == str(owing.tenant_id)
    assert described.typed_search_attributes[DOMAIN] == owing.queue
    assert await owing.owed() == 0

    await owing.keep(entity_id, cron="30 7 * * *", zone="America/New_York", number=8)
    assert await owing.owed() == 1
    await keeper.once()
    assert minutes_and_zone(await owing.described(entity_id)) == ([30], [7], "America/New_York")
    assert await owing.owed() == 0

    await owing.drop(entity_id)
    await keeper.once()
    assert await owing.described(entity_id) is None
    assert await owing.rows() == []


async def test_what_is_not_changed_is_not_owed_again(owing: Owing) -> None:
    entity_id = new_id()
    await owing.keep(entity_id)
    await owing.keep(entity_id)
    await owing.drop(new_id())
    assert [row.revision for row in await owing.rows()] == [1]
    await owing.drop(entity_id)
    await owing.drop(entity_id)
    assert [(row.wanted, row.revision) for row in await owing.rows()] == [(False, 2)]
    await owing.keep(entity_id)
    assert [(row.wanted, row.revision) for row in await owing.rows()] == [(True, 3)]


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [
        ("@daily", "UTC", "cron"),
        ("0 0 13 * 5", "UTC", "cron"),
        ("0 0 * * *", "Europe/Atlantis", "time_zone"),
        ("0 0 * * *", "../etc/passwd", "time_zone"),
        ("0 0 * * *", "", "time_zone"),
    ],
)
async def test_what_temporal_would_take_otherwise_is_refused(owing: Owing, cron: str, zone: str, field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        await owing.keep(new_id(), cron=cron, zone=zone)
    assert [problem.field for problem in refused.value.errors] == [field]
    assert await owing.rows() == []


async def test_each_step_may_happen_twice(owing: Owing) -> None:
    entity_id = new_id()
    await owing.keep(entity_id)
    await owing.keeper().once()
    await owing.keep(entity_id, cron="15 6 * * *")
    await owing.forget_applied()
    for _ in range(2):
        await owing.keeper().once()
        assert minutes_and_zone(await owing.described(entity_id)) == ([15], [6], "Europe/Berlin")
        await owing.forget_applied()
    await owing.handle(entity_id).delete()
    await owing.drop(entity_id)
    await owing.keeper().once()
    assert await owing.rows() == []


async def test_what_is_rolled_back_is_not_owed(owing: Owing) -> None:
    async with owing.database.tenant(owing.tenant_id) as session:
        await schedules.keep(
            session,
            workflow="test_scheduled",
            entity_id=new_id(),
            input=Order(number=1),
            cron="* * * * *",
            time_zone="UTC",
            domain=owing.queue,
        )
        await session.rollback()
    assert await owing.rows() == []


async def test_a_change_while_temporal_is_told_stays_owed(owing: Owing, monkeypatch: pytest.MonkeyPatch) -> None:
    entity_id, keeper = new_id(), owing.keeper()
    await owing.keep(entity_id)

    async def change() -> None:
        # another keeper finds the lock taken; whoever changes the row does not
        assert not await owing.keeper().once()
        await owing.keep(entity_id, cron="15 6 * * *")

    with monkeypatch.context() as patch:
        owing.on_create(patch, after=change)
        await keeper.once()
    assert await owing.owed() == 1
    assert minutes_and_zone(await owing.described(entity_id)) == ([0], [9], "Europe/Berlin")
    await keeper.once()
    assert minutes_and_zone(await owing.described(entity_id)) == ([15], [6], "Europe/Berlin")
    assert await owing.owed() == 0


async def test_what_is_refused_holds_up_nobody_and_is_not_hammered(
    owing: Owing, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [new_id() for _ in range(PAGE)]
    for entity_id in bad:
        await owing.keep(entity_id)
        await owing.break_cron(entity_id)
    good = new_id()
    await owing.keep(good)
    now = 0.0
    keeper = owing.keeper(lambda: now)
    asked: list[str] = []
    owing.on_create(monkeypatch, before=asked.append)
    assert await keeper.once()
    assert not await keeper.once()
    assert await owing.described(good) is not None
    assert len(asked) == PAGE + 1
    tries: list[int] = []
    for now in (0.9, 1.1, 2.9, 3.2, 7.1, 7.3):  # noqa: B007 - the keeper reads it
        asked.clear()
        await keeper.once()
        tries.append(len(asked))
    assert tries == [0, PAGE, 0, PAGE, 0, PAGE]
    # a change is tried at once
    asked.clear()
    await owing.keep(bad[0], cron="1 1 * * *")
    await keeper.once()
    assert asked == [owing.handle(bad[0]).id]
    assert await owing.described(bad[0]) is not None


async def test_an_outage_only_delays(owing: Owing, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, there = new_id(), new_id()
    await owing.keep(gone)
    await owing.keep(there)
    keeper = owing.keeper()

    def unavailable(name: str) -> None:
        if name == owing.handle(gone).id:
            raise RPCError("gone", RPCStatusCode.UNAVAILABLE, b"")

    with monkeypatch.context() as patch:
        owing.on_create(patch, before=unavailable)
        with pytest.raises(RPCError):
            await keeper.once()
    assert await owing.owed() == 1
    await keeper.once()
    assert await owing.owed() == 0


async def test_a_schedule_starts_its_workflow_with_its_input(owing: Owing) -> None:
    entity_id = new_id()
    await owing.keep(entity_id, cron="0 0 29 2 *", number=42)
    await owing.keeper().once()
    async with Worker(
        owing.client, task_queue=owing.queue, workflows=[Scheduled], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        await owing.handle(entity_id).trigger()

        async def started() -> str | None:
            described = await owing.handle(entity_id).describe()
            for each in described.info.recent_actions:
                if isinstance(each.action, ScheduleActionExecutionStartWorkflow):
                    return each.action.workflow_id
            return None

        workflow_id = await eventually(started)
        assert workflow_id.startswith(f"test_scheduled/{owing.tenant_id}/{entity_id}-")
        run = owing.client.get_workflow_handle(workflow_id)
        assert await run.result() == 42
    attributes = (await run.describe()).typed_search_attributes
    assert attributes[TENANT_ID] == str(owing.tenant_id)
    assert attributes[DOMAIN] == owing.queue


async def test_a_pause_by_hand_outlasts_a_change(owing: Owing) -> None:
    entity_id = new_id()
    await owing.keep(entity_id)
    await owing.keeper().once()
    await owing.handle(entity_id).pause(note="holidays")
    await owing.keep(entity_id, cron="15 6 * * *")
    await owing.keeper().once()
    described = await owing.described(entity_id)
    assert minutes_and_zone(described) == ([15], [6], "Europe/Berlin")
    assert described is not None
    assert described.schedule.state.paused


async def test_what_temporal_lost_is_created_again_and_what_nobody_wants_deleted(owing: Owing) -> None:
    kept, lost, changed, unwanted = (new_id() for _ in range(4))
    for entity_id in (kept, lost, changed, unwanted):
        await owing.keep(entity_id)
    keeper = owing.keeper()
    await keeper.once()
    await owing.keep(changed, cron="15 6 * * *")
    await keeper.once()
    stranger = await owing.client.create_schedule(
        f"test_scheduled/{new_id()}/{new_id()}",
        (await owing.handle(kept).describe()).schedule,
    )
    # Temporal as it was before some of it
    await owing.handle(lost).delete()
    old = (await owing.handle(kept).describe()).schedule
    await owing.handle(changed).delete()
    await owing.client.create_schedule(owing.handle(changed).id, old)
    async with owing.database.system() as session:
        await session.delete(await session.get_one(WorkflowSchedule, (owing.tenant_id, unwanted)))

    async def listed() -> bool:
        return (
            await owing.is_listed(changed, "revision 1")
            and await owing.is_listed(kept, "revision 1")
            and await owing.is_listed(unwanted, "revision 1")
            and not await owing.is_listed(lost, "revision 1")
        )

    await eventually(listed)
    assert await keeper.repair()
    assert {row.id for row in await owing.rows() if row.applied_revision is None} == {lost, changed}
    assert await owing.described(unwanted) is None
    assert await stranger.describe()  # of a tenant that only another installation knows
    await stranger.delete()
    await keeper.once()
    assert minutes_and_zone(await owing.described(lost)) == ([0], [9], "Europe/Berlin")
    assert minutes_and_zone(await owing.described(changed)) == ([15], [6], "Europe/Berlin")
    assert await owing.owed() == 0


async def test_the_loop_is_woken_and_stops(owing: Owing) -> None:
    entity_id, stop = new_id(), asyncio.Event()
    running = asyncio.create_task(owing.keeper().run(stop))
    await owing.keep(entity_id)
    await eventually(lambda: owing.described(entity_id))
    stop.set()
    async with asyncio.timeout(10):
        await running


async def test_a_tenant_neither_sees_nor_changes_another_tenants_schedule(owing: Owing) -> None:
    entity_id = new_id()
    await owing.keep(entity_id)
    async with owing.database.system() as session:
        other = (await tenants.create(session, "o", "O")).id
    async with owing.database.tenant(other) as session:
        await schedules.drop(session, entity_id=entity_id)
        seen = await session.scalar(
            select(func.count()).select_from(WorkflowSchedule).where(WorkflowSchedule.tenant_id == other)
        )
        assert seen == 0
    assert [(row.tenant_id, row.wanted) for row in await owing.rows()] == [(owing.tenant_id, True)]


async def test_what_is_owed_is_found_by_its_index_among_many(owing: Owing, empty_database_url: str) -> None:
    async with owing.database.tenant(owing.tenant_id) as session:
        await session.execute(
            text("""
                INSERT INTO workflow_schedule (tenant_id, id, workflow, queue, domain, input, cron, time_zone,
                                               applied_revision)
                SELECT :tenant, tl_uuid7(), 'w', 'q', 'd', '{}', '* * * * *', 'UTC', 1 FROM generate_series(1, 5000)
            """),
            {"tenant": owing.tenant_id},
        )
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("ANALYZE workflow_schedule")
    await connection.close()
    keeper = owing.keeper()
    with recorded() as statements:
        await keeper.once()
    (statement, values) = next(each for each in statements if "FROM workflow_schedule" in each[0])
    async with owing.database.hot_system() as connection:
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))[0]["Plan"]
    assert "workflow_schedule_owed_idx" in indexes(plan), json.dumps(plan, indent=1)
    async with owing.database.system() as session:
        await session.execute(delete(WorkflowSchedule))
