"""Bringing Temporal's schedules in line with the rows of `workflow_schedule`."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Integer, Uuid, column, delete, exists, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TableValuedAlias
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from core.database import Database
from core.logging import get_logger
from core.temporal import DOMAIN, TENANT_ID
from core.waiting import any_of
from core.wake import SCHEDULE_CHANNEL
from models import Tenant, WorkflowSchedule
from relay.refusals import Refusals, is_outage
from relay.repeating import SWEEP_SECONDS, work_off

log = get_logger(__name__)

PAGE: Final = 50
REPAIR_SECONDS: Final = 3_600.0
"""How often what Temporal has is compared with what it is to have."""
RETRY_REPAIR_SECONDS: Final = 60.0
MOST_DELETED: Final = 500
"""How many that nobody wants one comparison deletes; the next goes on."""
APPLY_SECONDS: Final = 10.0
"""When Temporal is given up on for now; far below what an idle transaction is allowed."""
CATCH_UP: Final = timedelta(minutes=10)
"""A run that an outage of Temporal delayed by more than this is left out."""
KEEPER_LOCK: Final = 7_302_121
"""Key of the advisory lock: one process speaks with Temporal at a time, so an older revision never lands on a newer."""
_Key = tuple[UUID, UUID, int]
"""Tenant, entity and revision."""
_NOTE: Final = re.compile(r"revision (\d+)")


class ScheduleKeeper:
    """Creates, changes and deletes schedules as rows say.

    Any number may run. Each step may happen twice: what is created when it exists is changed, what is deleted when it
    is gone is gone. Rows are not locked meanwhile, so whoever changes one never waits for Temporal.
    """

    def __init__(self, database: Database, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the schedules of `database` at `client`'s namespace; `clock` counts seconds."""
        self._database = database
        self._client = client
        self._woken = asyncio.Event()
        self._refusals = Refusals[_Key](clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres or Temporal only delays."""
        async with asyncio.TaskGroup() as tasks:
            applying = work_off(
                self._database, SCHEDULE_CHANNEL, self._woken, self.once, stop, delayed="schedules.delayed"
            )
            tasks.create_task(applying, name="schedules-apply")
            tasks.create_task(self._repair_hourly(stop), name="schedules-repair")

    async def _repair_hourly(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            pause = REPAIR_SECONDS
            try:
                if not await self.repair():
                    pause = SWEEP_SECONDS
            except Exception as error:  # noqa: BLE001 - an outage, or a server that cannot list: the changes go on
                log.warning("schedules.not_compared", error=type(error).__name__)
                pause = RETRY_REPAIR_SECONDS
            await any_of(stop, seconds=pause)

    async def once(self) -> bool:
        """Bring one page in line; whether there may be more.

        Raises:
            RPCError: Temporal could not be spoken with; what it did before that is recorded.
            TimeoutError: it did not answer.
        """
        async with self._database.system() as session:
            if not await _lock(session):
                return False
            rows = await self._owed(session)
            if not rows:
                return False
            answers = await asyncio.gather(*(self._apply(row) for row in rows), return_exceptions=True)
            await _record(session, [row for row, error in zip(rows, answers, strict=True) if error is None])
        outage: BaseException | None = None
        for row, error in zip(rows, answers, strict=True):
            if error is None:
                continue
            if is_outage(error):
                outage = error
                continue
            pause = self._refusals.add(_key(row))
            log.error(
                "schedule.refused", schedule=schedule_id(row), error=f"{type(error).__name__}: {error}", retry_in=pause
            )
        if outage is not None:
            raise outage
        return len(rows) == PAGE

    async def _owed(self, session: AsyncSession) -> Sequence[WorkflowSchedule]:
        row = WorkflowSchedule
        # a changed one has another revision, and is tried at once
        held = _table("held", self._refusals.held())
        return (
            await session.scalars(
                select(row)
                .where(
                    row.applied_revision.is_distinct_from(row.revision),
                    ~exists().where(*_same(held)),
                )
                .order_by(row.created_at)
                .limit(PAGE)
            )
        ).all()

    async def _apply(self, row: WorkflowSchedule) -> None:
        async with asyncio.timeout(APPLY_SECONDS):
            if row.wanted:
                await self._put(row)
            else:
                await self._delete(schedule_id(row))

    async def _put(self, row: WorkflowSchedule) -> None:
        wanted, attributes = as_schedule(row), search_attributes(row)
        try:
            await self._client.create_schedule(schedule_id(row), wanted, search_attributes=attributes)
        except ScheduleAlreadyRunningError:

            def change(now: ScheduleUpdateInput) -> ScheduleUpdate:
                # who paused it by hand had a reason
                state = replace(now.description.schedule.state, note=wanted.state.note)
                return ScheduleUpdate(schedule=replace(wanted, state=state), search_attributes=attributes)

            await self._client.get_schedule_handle(schedule_id(row)).update(change)

    async def _delete(self, name: str) -> None:
        try:
            await self._client.get_schedule_handle(name).delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def repair(self) -> bool:
        """Have put right what Temporal lost, or has as it was long ago, and delete what its tenant no longer wants.

        For a Temporal whose store was restored or wiped. It lists, and asks about none in particular. Another
        installation's schedules in the same namespace are of tenants unknown here, and left alone. False when another
        process held it up.
        """
        # listed before the rows are read: what is there by now and has no row then was dropped
        listed = await self._listed()
        row = WorkflowSchedule
        async with self._database.system() as session:
            if not await _lock(session):
                return False
            rows = (
                await session.execute(
                    select(row.tenant_id, row.id, row.workflow, row.wanted, row.revision, row.applied_revision)
                )
            ).all()
            names = {name_of(each.workflow, each.tenant_id, each.id): each for each in rows}
            lost = [
                (each.tenant_id, each.id, each.revision)
                for name, each in names.items()
                if each.wanted
                and each.applied_revision == each.revision
                and listed.get(name, 0) not in {each.revision, None}
            ]
            await _mark_lost(session, lost)
            tenants = {str(tenant_id) for tenant_id in await session.scalars(select(Tenant.id))}
            unwanted = [
                name
                for name, revision in listed.items()
                if revision is not None and name not in names and _tenant_in(name) in tenants
            ][:MOST_DELETED]
            async with asyncio.timeout(APPLY_SECONDS):
                await asyncio.gather(*(self._delete(name) for name in unwanted))
        if lost or unwanted:
            log.warning("schedules.repaired", lost=len(lost), unwanted=len(unwanted))
            self._woken.set()
        return True

    async def _listed(self) -> dict[str, int | None]:
        """Return the revision that each schedule has in Temporal; None where it cannot be told."""
        listed: dict[str, int | None] = {}
        async for found in await self._client.list_schedules(page_size=1_000):
            if found.schedule is None:  # an old server
                listed[found.id] = None
                continue
            state = found.schedule.state
            note = _NOTE.fullmatch(state.note or "")
            if note is not None:
                listed[found.id] = int(note[1])
            elif state.paused:  # the note is theirs who paused it
                listed[found.id] = None
        return listed


def as_schedule(row: WorkflowSchedule) -> Schedule:
    """Return the row in Temporal's words."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            row.workflow,
            row.input,
            id=schedule_id(row),
            task_queue=row.queue,
            typed_search_attributes=search_attributes(row),
        ),
        spec=ScheduleSpec(cron_expressions=[row.cron], time_zone_name=row.time_zone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note=f"revision {row.revision}"),  # lists show it
    )


def schedule_id(row: WorkflowSchedule) -> str:
    """Return what the row's schedule is called in Temporal."""
    return name_of(row.workflow, row.tenant_id, row.id)


def name_of(workflow: str, tenant_id: UUID, entity_id: UUID) -> str:
    """Return what the schedule of such a workflow is called in Temporal."""
    return f"{workflow}/{tenant_id}/{entity_id}"


def _tenant_in(name: str) -> str:
    return name.partition("/")[2].partition("/")[0]


def search_attributes(row: WorkflowSchedule) -> TypedSearchAttributes:
    """Return what the schedule, and each workflow it starts, is found by."""
    return TypedSearchAttributes(
        [SearchAttributePair(TENANT_ID, str(row.tenant_id)), SearchAttributePair(DOMAIN, row.domain)]
    )


async def _lock(session: AsyncSession) -> bool:
    return bool(await session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": KEEPER_LOCK}))


def _key(row: WorkflowSchedule) -> _Key:
    return (row.tenant_id, row.id, row.revision)


def _table(name: str, keys: Sequence[_Key]) -> TableValuedAlias:
    """Return the keys as a table of the statement."""
    return (
        func.unnest(
            literal([tenant_id for tenant_id, _, _ in keys], ARRAY(Uuid())),
            literal([entity_id for _, entity_id, _ in keys], ARRAY(Uuid())),
            literal([revision for _, _, revision in keys], ARRAY(Integer())),
        )
        .table_valued(column("tenant_id", Uuid()), column("id", Uuid()), column("revision", Integer()), name=name)
        .render_derived()
    )


def _same(table: TableValuedAlias, *, revision: bool = True) -> list[ColumnElement[bool]]:
    row = WorkflowSchedule
    entity = [table.c.tenant_id == row.tenant_id, table.c.id == row.id]
    return [*entity, table.c.revision == row.revision] if revision else entity


async def _record(session: AsyncSession, rows: Sequence[WorkflowSchedule]) -> None:
    """Note what Temporal has now; a row that was changed meanwhile stays owed."""
    kept = _table("kept", [_key(row) for row in rows if row.wanted])
    await session.execute(
        update(WorkflowSchedule)
        .where(*_same(kept, revision=False))
        .values(applied_revision=kept.c.revision)
        .execution_options(synchronize_session=False)
    )
    gone = _table("gone", [_key(row) for row in rows if not row.wanted])
    await session.execute(delete(WorkflowSchedule).where(*_same(gone)).execution_options(synchronize_session=False))


async def _mark_lost(session: AsyncSession, keys: Sequence[_Key]) -> None:
    await session.execute(
        update(WorkflowSchedule)
        .where(*_same(_table("lost", keys)))
        .values(applied_revision=None)
        .execution_options(synchronize_session=False)
    )
