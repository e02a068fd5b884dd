"""What is owed to Temporal: workflows of committed cohorts to start, and signals to deliver.

Both are rows, written with their cause, so a crash at any point only delays them. Starting is idempotent by the
workflow's id, and a signal says what Postgres already decided, so either may happen twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from contracts.journeys import SIGNAL, WORKFLOWS, CohortGraph, CohortInput, CohortRef, Told
from core import tracing
from core.database import Database
from core.logging import get_logger
from core.temporal import CRM_QUEUE, DOMAIN, JOURNEY_ID, MARKETING_QUEUE, TENANT_ID
from core.wake import COHORT_CHANNEL
from models import Cohort, JourneyVersion
from relay.repeating import work_off

log = get_logger(__name__)

PAGE = 200
DELIVERY_LOCK = 7_302_120
"""Key of the advisory lock that keeps signals in order: one process delivers at a time."""

_OWED: Final = """
SELECT EXISTS (SELECT FROM (SELECT FROM cohort WHERE started_at IS NULL ORDER BY created_at LIMIT 1) AS first),
       EXISTS (SELECT FROM cohort_signal)
"""
_TAKE: Final = text("""
    WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(:key) AS ours)
    , next AS MATERIALIZED (
      SELECT s.tenant_id, s.id, c.domain
      FROM cohort_signal s JOIN cohort c ON c.tenant_id = s.tenant_id AND c.id = s.cohort_id
      WHERE (SELECT ours FROM turn) AND c.started_at IS NOT NULL -- else its workflow is started first
      ORDER BY s.position LIMIT :size
    )
    DELETE FROM cohort_signal s USING next WHERE s.tenant_id = next.tenant_id AND s.id = next.id
    RETURNING s.tenant_id, s.journey_id, s.cohort_id, s.payload, s.trace, s.position, next.domain
""").columns(payload=JSONB)
"""What another process has delivered meanwhile is not taken again: a row that is gone by now is not deleted."""


async def start(
    client: Client, cohort: CohortRef, graph: CohortGraph, *, eager: bool = False, rehomed: bool = False
) -> None:
    """Start a cohort's workflow; nothing happens when it was started before."""
    with suppress(WorkflowAlreadyStartedError):
        await client.start_workflow(
            WORKFLOWS[cohort.domain],
            CohortInput(cohort=cohort, graph=graph, rehomed=rehomed),
            id=cohort.workflow_id,
            task_queue=graph.queues[cohort.domain],
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            request_eager_start=eager,
            search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(TENANT_ID, str(cohort.tenant_id)),
                    SearchAttributePair(DOMAIN, cohort.domain),
                    SearchAttributePair(JOURNEY_ID, str(cohort.journey_id)),
                ]
            ),
        )


class CohortStarter:
    """Starts cohorts and delivers signals, from the rows that say so."""

    def __init__(self, database: Database, client: Client, *, eager: bool) -> None:
        """Prepare; `eager` where this process runs the worker, which then gets the first task without polling."""
        self._database = database
        self._client = client
        self._eager = eager
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: something was committed."""
        self._woken.set()

    def committed(self, channels: AbstractSet[str]) -> None:
        """Look now if what was committed is for the readers of cohorts."""
        if COHORT_CHANNEL in channels:
            self.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; an outage of Postgres or Temporal only delays."""
        await work_off(self._database, COHORT_CHANNEL, self._woken, self.once, stop, delayed="cohorts.delayed")

    async def once(self) -> bool:
        """Start and deliver one page of each; whether there may be more."""
        async with self._database.hot_system() as connection:
            # Woken by much that turns out to be done, it mostly finds nothing.
            cohorts, signals = await connection.fetchrow(_OWED) or (True, True)
        started = await self._start_page() if cohorts else 0
        delivered = await self._deliver_page() if signals else 0
        return PAGE in {started, delivered}

    async def _start_page(self) -> int:
        async with self._database.system() as session:
            rows = (
                await session.execute(
                    select(
                        Cohort.tenant_id,
                        Cohort.journey_id,
                        Cohort.id,
                        Cohort.size,
                        Cohort.version_id,
                        Cohort.domain,
                        Cohort.rehomed,
                        Cohort.trace,
                        JourneyVersion.definition,
                    )
                    .join(
                        JourneyVersion,
                        (JourneyVersion.tenant_id == Cohort.tenant_id) & (JourneyVersion.id == Cohort.version_id),
                    )
                    .where(Cohort.started_at.is_(None))
                    .order_by(Cohort.created_at)
                    .limit(PAGE)
                    .with_for_update(of=Cohort, skip_locked=True)
                )
            ).all()
            if not rows:
                return 0
            answers = await asyncio.gather(*(self._start(row) for row in rows), return_exceptions=True)
            started = [row for row, error in zip(rows, answers, strict=True) if error is None]
            refused = [error for error in answers if error is not None]
            if refused and not started:
                raise refused[0]
            # One that Temporal will not have must not hold up the others; it is tried again with every page.
            for error in refused:
                log.error("cohort.refused", error=f"{type(error).__name__}: {error}")
            await mark_started(session, [(row.tenant_id, row.id) for row in started])
        return len(started)

    async def _start(self, row: Row[*tuple[Any, ...]]) -> None:
        cohort = CohortRef(tenant_id=row.tenant_id, journey_id=row.journey_id, cohort_id=row.id, domain=row.domain)
        graph = CohortGraph(
            size=row.size,
            version_id=row.version_id,
            definition=row.definition,
            queues={"marketing": MARKETING_QUEUE, "crm": CRM_QUEUE},
        )
        with tracing.attached(row.trace):
            await start(self._client, cohort, graph, eager=self._eager, rehomed=row.rehomed)

    async def _deliver_page(self) -> int:
        async with self._database.system() as session:
            signals = (await session.execute(_TAKE, {"key": DELIVERY_LOCK, "size": PAGE})).all()
            by_cohort: dict[UUID, list[Row[Any]]] = defaultdict(list)
            for signal in sorted(signals, key=lambda signal: signal.position):
                by_cohort[signal.cohort_id].append(signal)
            await asyncio.gather(*map(self._deliver, by_cohort.values()))
        return len(signals)

    async def _deliver(self, signals: Sequence[Row[Any]]) -> None:
        for signal in signals:
            cohort = CohortRef(
                tenant_id=signal.tenant_id,
                journey_id=signal.journey_id,
                cohort_id=signal.cohort_id,
                domain=signal.domain,
            )
            try:
                with tracing.attached(signal.trace):
                    await self._client.get_workflow_handle(cohort.workflow_id).signal(
                        SIGNAL, Told.model_validate(signal.payload)
                    )
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:  # a workflow that is over needs no telling
                    raise


async def mark_started(session: AsyncSession, cohorts: Sequence[tuple[UUID, UUID]]) -> None:
    """Record that these (tenant, cohort) have their workflow."""
    await session.execute(
        update(Cohort)
        .where(tuple_(Cohort.tenant_id, Cohort.id).in_(cohorts), Cohort.started_at.is_(None))
        .values(started_at=func.now())
    )
