"""Activities of segments: everybody is looked at in pages, each in a transaction that moves the position too."""

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from activities.verdicts import verdict
from contracts.segments import BEGIN, FAIL, RUN, RefreshFailure, RefreshInput, RefreshProgress, RefreshRef
from core.database import Database
from core.errors import PlatformError
from services.marketing import criteria
from services.marketing.segments import refreshing
from services.marketing.segments.refreshing import LAST, PAGE, Job, StalePageError

SLICE_SECONDS: Final = 300.0
"""After so long the activity returns, and is called again: no worker is held for as long as a segment takes."""


class SegmentActivities:
    """The store's side of segments, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.begin, self.run, self.fail]

    @activity.defn(name=BEGIN)
    async def begin(self, wanted: RefreshInput) -> RefreshRef:
        """Begin a computation because it is time."""
        async with self._database.tenant(wanted.tenant_id) as session:
            run_id = await refreshing.begin_scheduled(session, wanted.segment_id)
        return RefreshRef(tenant_id=wanted.tenant_id, run_id=run_id)

    @activity.defn(name=RUN)
    async def run(self, ref: RefreshRef) -> RefreshProgress:
        """Look at people until all are done, or some minutes are over."""
        if ref.run_id is None:
            return RefreshProgress(done=True)
        try:
            async with alive():
                while True:
                    async with self._database.tenant(ref.tenant_id) as session:
                        job = await refreshing.load(session, ref.run_id)
                    if job is None:
                        return RefreshProgress(done=True)
                    try:
                        return await (self._by_sql(job, job.sql) if job.sql is not None else self._by_rules(job))
                    except StalePageError:  # another attempt, given up for dead, still took pages; or it is superseded
                        continue
        except (PlatformError, DBAPIError, asyncpg.PostgresError) as error:
            # An error's own text may hold people's data, and this goes into a history.
            code, permanent = verdict(error)
            raise ApplicationError(code, type=code, non_retryable=permanent) from None

    async def _by_rules(self, job: Job) -> RefreshProgress:
        ends = time.monotonic() + SLICE_SECONDS
        after = job.position
        while True:
            async with self._database.tenant(job.tenant_id) as session:
                last = await refreshing.page(session, job, after)
            if last is None:
                return RefreshProgress(done=True)
            if time.monotonic() > ends:
                return RefreshProgress(done=False)
            after = last

    async def _by_sql(self, job: Job, sql: str) -> RefreshProgress:
        after = job.position
        asked = criteria.parse(sql)
        async with aclosing(criteria.pages(self._database, job.tenant_id, asked, after=after, size=PAGE)) as pages:
            async for found in pages:
                # Behind the last one found are people too, who may be members still.
                upto = found[-1] if len(found) == PAGE else LAST
                await self._take(job, after, upto, found)
                after = upto
        if after != LAST:
            await self._take(job, after, LAST, [])
        return RefreshProgress(done=True)

    async def _take(self, job: Job, after: UUID, upto: UUID, found: list[UUID]) -> None:
        async with self._database.tenant(job.tenant_id) as session:
            await refreshing.page_found(session, job, after, upto, found)

    @activity.defn(name=FAIL)
    async def fail(self, failure: RefreshFailure) -> None:
        """Note that the computation cannot go on."""
        if failure.ref.run_id is None:
            return
        async with self._database.tenant(failure.ref.tenant_id) as session:
            await refreshing.fail(session, failure.ref.run_id, failure.error)
