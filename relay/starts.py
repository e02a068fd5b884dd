"""Starting the workflows that rows of `workflow_start` owe."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from core.database import Database
from core.logging import get_logger
from core.temporal import DOMAIN, TENANT_ID
from core.waiting import any_of
from core.wake import START_CHANNEL
from models import WorkflowStart

log = get_logger(__name__)

PAGE = 100
SWEEP_SECONDS = 1.0
"""Without being woken, look this often for what a crash left undone."""


class WorkflowStarter:
    """Starts what is owed. Any number may run: a row is held while it is started, and a workflow's id starts once."""

    def __init__(self, database: Database, client: Client) -> None:
        """Start workflows of `database` at `client`'s namespace."""
        self._database = database
        self._client = client
        self._woken = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres or Temporal only delays."""
        while not stop.is_set():
            try:
                async with self._database.listen(START_CHANNEL, self._woken.set) as lost:
                    while not stop.is_set() and not lost.is_set():
                        self._woken.clear()
                        if not await self.once():
                            await any_of(stop, self._woken, seconds=SWEEP_SECONDS)
            except Exception as error:  # noqa: BLE001 - whatever it was, what is owed stays owed
                log.warning("starts.delayed", error=type(error).__name__)
                await any_of(stop, seconds=SWEEP_SECONDS)

    async def once(self) -> bool:
        """Start one page; whether there may be more."""
        async with self._database.system() as session:
            rows = (
                await session.scalars(
                    select(WorkflowStart)
                    .order_by(WorkflowStart.created_at)
                    .limit(PAGE)
                    .with_for_update(key_share=True, skip_locked=True)
                )
            ).all()
            if not rows:
                return False
            answers = await asyncio.gather(*(self._start(row) for row in rows), return_exceptions=True)
            started = [row for row, error in zip(rows, answers, strict=True) if error is None]
            refused = [error for error in answers if error is not None]
            if refused and not started:
                raise refused[0]
            # One that Temporal will not have must not hold up the others; it is tried again with every page.
            for error in refused:
                log.error("start.refused", error=f"{type(error).__name__}: {error}")
            await self._forget(session, started)
        return len(started) == PAGE

    async def _start(self, row: WorkflowStart) -> None:
        with suppress(WorkflowAlreadyStartedError):
            await self._client.start_workflow(
                row.workflow,
                row.input,
                id=row.workflow_id,
                task_queue=row.queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(
                    [SearchAttributePair(TENANT_ID, str(row.tenant_id)), SearchAttributePair(DOMAIN, row.domain)]
                ),
            )

    @staticmethod
    async def _forget(session: AsyncSession, rows: Sequence[WorkflowStart]) -> None:
        if rows:
            await session.execute(
                delete(WorkflowStart).where(
                    tuple_(WorkflowStart.tenant_id, WorkflowStart.id).in_([(row.tenant_id, row.id) for row in rows])
                )
            )
