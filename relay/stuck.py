"""Looks for runs whose workflow is over, gone or standing still while members are inside, and mends the first two."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from core.actor import SYSTEM
from core.database import Database
from core.logging import get_logger
from core.waiting import any_of
from services.journeys import stuck
from services.journeys.stuck import Why

log = get_logger(__name__)

ROUND_SECONDS: Final = 30.0
"""From the end of a round to the beginning of the next."""
PAGE_SECONDS: Final = 10.0
"""Between the pages of a round: each of 10,000 workflows is asked about within nine minutes."""
PAGE: Final = 200
"""Workflows asked about at once."""
MEMBERS: Final = 50_000
"""Members of cohorts looked at for a page, after whom it ends."""
AT_ONCE: Final = 20
"""Questions that Temporal has at a time."""
_Run = Row[*tuple[Any, ...]]


class StuckFinder:
    """Goes round all runs, a page at a time. Any number may: a run is mended once, whoever comes first."""

    def __init__(self, database: Database, client: Client, domains: Collection[str]) -> None:
        """Look after the runs of these domains; nothing happens before `run`."""
        self._database = database
        self._client = client
        self._domains = domains
        self._after: tuple[UUID, UUID] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set; an outage of Postgres or Temporal only delays."""
        while True:
            await any_of(stop, seconds=ROUND_SECONDS if self._after is None else PAGE_SECONDS)
            if stop.is_set():
                return
            try:
                await self.once()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next round looks again
                log.warning("stuck.delayed", error=type(error).__name__)

    async def once(self) -> int:
        """Ask about those that are known to be stuck and a page of the others; return how many runs were mended."""
        async with self._database.system() as session:
            runs = {(run.tenant_id, run.id): run for run in await stuck.known(session, self._domains, PAGE)}
        members = 0
        asked = len(runs)
        while len(runs) < asked + PAGE and members < MEMBERS:
            page = await self._page()
            for run in page:
                members += run.size
            runs |= {(run.tenant_id, run.id): run for run in await self._inhabited(page)}
            if self._after is None:
                break
        return await self._look(list(runs.values()))

    async def _page(self) -> Sequence[_Run]:
        """Return the next cohorts, whose members one statement looks at; after the last ones begin anew."""
        async with self._database.system() as session:
            rows = (await session.execute(stuck.under_way(self._after, self._domains, PAGE))).all()
        taken = members = 0
        for row in rows:
            members += row.size
            taken += 1
            if members >= MEMBERS:
                break
        whole = taken == len(rows) < PAGE
        self._after = None if whole else (rows[taken - 1].tenant_id, rows[taken - 1].id)
        return rows[:taken]

    async def _inhabited(self, runs: Sequence[_Run]) -> list[_Run]:
        found: list[_Run] = []
        for tenant_id, own in _by_tenant(runs).items():
            async with self._database.tenant(tenant_id) as session:
                inhabited = await stuck.inhabited(session, [run.id for run in own])
            found += [run for run in own if run.id in inhabited]
        return found

    async def _look(self, runs: Sequence[_Run]) -> int:
        limit = asyncio.Semaphore(AT_ONCE)
        answers: list[Why | None] = await asyncio.gather(*(self._ask(run, limit) for run in runs))
        if "gone" in answers:  # a namespace that is missing says the same of each, and that is no reason to begin anew
            await self._client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self._client.namespace)
            )
        over: dict[tuple[UUID, UUID], Why] = {
            (run.tenant_id, run.id): why for run, why in zip(runs, answers, strict=True) if why is not None
        }
        mended = 0
        for tenant_id, own in _by_tenant(runs).items():
            alive = [run.id for run in own if (tenant_id, run.id) not in over]
            async with self._database.tenant(tenant_id) as session:
                still = await stuck.still(session, alive)
                await stuck.note(session, {each: "still" if each in still else None for each in alive})
            for run in own:
                why = over.get((tenant_id, run.id))
                if why is not None:
                    mended += await self._mend(run, why)
        return mended

    async def _ask(self, run: _Run, limit: asyncio.Semaphore) -> Why | None:
        async with limit:
            try:
                found = await self._client.get_workflow_handle(stuck.reference(run).workflow_id).describe()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return "gone"
                raise
        return None if found.status is WorkflowExecutionStatus.RUNNING else "closed"

    async def _mend(self, run: _Run, why: Why) -> bool:
        try:
            async with self._database.tenant(run.tenant_id) as session:
                members = await stuck.mend(session, run.id, why, by=SYSTEM)
        except Exception as error:  # one that cannot be mended is shown, and must not hold up the others
            log.warning("stuck.not_mended", cohort=str(run.id), exc_info=error)
            async with self._database.tenant(run.tenant_id) as session:
                await stuck.note(session, {run.id: why})
            return False
        if members:
            log.warning("stuck.mended", cohort=str(run.id), why=why, members=members)
        return bool(members)


def _by_tenant(runs: Sequence[_Run]) -> dict[UUID, list[_Run]]:
    found: dict[UUID, list[_Run]] = defaultdict(list)
    for run in runs:
        found[run.tenant_id].append(run)
    return found
