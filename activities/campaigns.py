"""Activities of campaigns: short looks at a run, and slices of work whose position is in the store."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from activities.verdicts import verdict
from contracts.campaigns import (
    BEGIN_OCCURRENCE,
    DECIDE,
    FAIL,
    FREEZE,
    LOOK,
    RELEASE,
    WATCH,
    CampaignInput,
    OccurrenceDue,
    Outlook,
    RunFailure,
    Slice,
)
from core.database import Database, TenantSession
from core.errors import PlatformError
from services.marketing.campaigns import choosing, course, freezing

SLICE_SECONDS: Final = 120.0
"""After so long the activity returns, and is called again."""
WATCH_SECONDS: Final = 10.0
"""How long the end of a run is waited for here; then a timer does it, and nobody is held up."""
_SHORTEST: Final = 0.1
_LONGEST: Final = 1.0
_PATIENCE: Final = 0.02
"""Part of the time since it began after which a run is looked at again."""
_MOST: Final = timedelta(minutes=1)


class CampaignActivities:
    """The store's side of campaigns, for one process."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        verified_senders: bool = False,
    ) -> None:
        """Use `database`; `clock` says what time it is; `verified_senders`: campaigns come from verified domains."""
        self._database = database
        self._verified_senders = verified_senders
        self._clock = clock

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.begin_occurrence, self.look, self.freeze, self.decide, self.release, self.watch, self.fail]

    @activity.defn(name=BEGIN_OCCURRENCE)
    async def begin_occurrence(self, due: OccurrenceDue) -> None:
        """Begin the run of a recurring campaign; once, however often it is asked."""
        async with _told(), self._database.tenant(due.tenant_id) as session:
            await course.begin_occurrence(session, due.campaign_id, due.due_at, verified_senders=self._verified_senders)

    @activity.defn(name=LOOK)
    async def look(self, run: CampaignInput) -> Outlook:
        """Return what is to be done next."""
        async with _told(), self._database.tenant(run.tenant_id) as session:
            return await course.look(session, run.run_id, now=self._clock())

    @activity.defn(name=FREEZE)
    async def freeze(self, run: CampaignInput) -> Slice:
        """Queue the audience page by page until all are, or some minutes are over."""
        return await self._slice(run, freezing.page)

    @activity.defn(name=DECIDE)
    async def decide(self, run: CampaignInput) -> Slice:
        """Choose the winner of a test, or note that somebody is to."""
        async with _told(), self._database.tenant(run.tenant_id) as session:
            await choosing.decide(session, run.run_id)
        return Slice(done=True)

    @activity.defn(name=RELEASE)
    async def release(self, run: CampaignInput) -> Slice:
        """Let the rest of the audience go with the winner's text, page by page."""

        async def page(session: TenantSession, run_id: UUID) -> bool:
            return await choosing.release(session, run_id, now=self._clock())

        return await self._slice(run, page)

    @activity.defn(name=WATCH)
    async def watch(self, run: CampaignInput) -> Outlook:
        """Wait for the run to end, for some seconds; where it takes longer, say when to look again."""
        began = time.monotonic()
        pause, before = _SHORTEST, -1
        async with _told(), alive():
            while True:
                seen = await self.look(run)
                if seen.next != "watch":
                    return seen
                if time.monotonic() - began > WATCH_SECONDS:
                    return seen.model_copy(update={"next": "wait", "at": await self._later(run)})
                pause = _SHORTEST if seen.waiting != before else min(pause * 2, _LONGEST)
                before = seen.waiting
                await asyncio.sleep(pause)

    async def _slice(self, run: CampaignInput, page: Callable[[TenantSession, UUID], Awaitable[bool]]) -> Slice:
        """Do page after page, each in a transaction of its own, until it says that it was the last, or time is up."""
        ends = time.monotonic() + SLICE_SECONDS
        async with _told(), alive():
            while True:
                async with self._database.tenant(run.tenant_id) as session:
                    done = await page(session, run.run_id)
                if done or time.monotonic() > ends:
                    return Slice(done=done)

    async def _later(self, run: CampaignInput) -> datetime:
        async with self._database.tenant(run.tenant_id) as session:
            began = await course.began_at(session, run.run_id)
        now = self._clock()
        return now + max(timedelta(seconds=_LONGEST), min((now - began) * _PATIENCE, _MOST))

    @activity.defn(name=FAIL)
    async def fail(self, failure: RunFailure) -> None:
        """Note that the run cannot go on."""
        async with self._database.tenant(failure.run.tenant_id) as session:
            await course.fail(session, failure.run.run_id, failure.error)


@asynccontextmanager
async def _told() -> AsyncGenerator[None]:
    """Turn errors into what a history may keep: their own text may hold people's data."""
    try:
        yield
    except (PlatformError, DBAPIError, asyncpg.PostgresError) as error:
        code, permanent = verdict(error)
        raise ApplicationError(code, type=code, non_retryable=permanent) from None
