"""Starting the workflows that rows of `workflow_start` owe."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, all_, delete, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from contracts import webhooks
from core import tracing
from core.database import Database
from core.logging import get_logger
from core.temporal import CAMPAIGN_ID, DOMAIN, TENANT_ID
from core.wake import START_CHANNEL
from models import WorkflowStart
from relay.refusals import Refusals, is_outage
from relay.repeating import work_off

log = get_logger(__name__)

PAGE = 100
ENDLESS = frozenset({webhooks.WORKFLOW})
"""Workflows that go on for good: they are of no trace, which would never end."""


class WorkflowStarter:
    """Starts what is owed. Any number may run: a row is held while it is started, and a workflow's id starts once."""

    def __init__(self, database: Database, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start workflows of `database` at `client`'s namespace; `clock` counts seconds."""
        self._database = database
        self._client = client
        self._woken = asyncio.Event()
        self._refusals = Refusals[UUID](clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres or Temporal only delays."""
        await work_off(self._database, START_CHANNEL, self._woken, self.once, stop, delayed="starts.delayed")

    async def once(self) -> bool:
        """Start one page; whether there may be more.

        Raises:
            RPCError: Temporal could not be spoken with; what it started before that is recorded.
            OSError: as above.
        """
        async with self._database.system() as session:
            rows = (
                await session.scalars(
                    select(WorkflowStart)
                    .where(WorkflowStart.id != all_(literal(self._refusals.held(), ARRAY(Uuid()))))
                    .order_by(WorkflowStart.created_at)
                    .limit(PAGE)
                    .with_for_update(key_share=True, skip_locked=True)
                )
            ).all()
            if not rows:
                return False
            answers = await asyncio.gather(*(self._start(row) for row in rows), return_exceptions=True)
            await self._forget(session, [row for row, error in zip(rows, answers, strict=True) if error is None])
        outage: BaseException | None = None
        for row, error in zip(rows, answers, strict=True):
            if error is None:
                continue
            if is_outage(error):
                outage = error
                continue
            # one that Temporal will not have must not hold up the others
            pause = self._refusals.add(row.id)
            log.error(
                "start.refused", workflow_id=row.workflow_id, error=f"{type(error).__name__}: {error}", retry_in=pause
            )
        if outage is not None:
            raise outage
        return len(rows) == PAGE

    async def _start(self, row: WorkflowStart) -> None:
        attributes = [SearchAttributePair(TENANT_ID, str(row.tenant_id)), SearchAttributePair(DOMAIN, row.domain)]
        if "campaign_id" in row.input:
            attributes.append(SearchAttributePair(CAMPAIGN_ID, str(row.input["campaign_id"])))
        with tracing.attached(None if row.workflow in ENDLESS else row.trace), suppress(WorkflowAlreadyStartedError):
            await self._client.start_workflow(
                row.workflow,
                row.input,
                id=row.workflow_id,
                task_queue=row.queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(attributes),
                start_signal=row.signal,
            )

    @staticmethod
    async def _forget(session: AsyncSession, rows: Sequence[WorkflowStart]) -> None:
        if rows:
            await session.execute(
                delete(WorkflowStart).where(
                    tuple_(WorkflowStart.tenant_id, WorkflowStart.id).in_([(row.tenant_id, row.id) for row in rows])
                )
            )
