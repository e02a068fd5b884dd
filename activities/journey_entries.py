"""Activities of entering by the clock: one page, one transaction."""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from activities.verdicts import verdict
from contracts.journey_entries import ENTER_BY_CRON, ENTER_BY_DATE, EntryDone, EntryPage
from core.database import Database, TenantSession
from core.errors import PlatformError
from services.journeys import date_entries
from services.marketing import cron_entries


class JourneyEntryActivities:
    """The store's side of entering by the clock, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.by_date, self.by_cron]

    @activity.defn(name=ENTER_BY_DATE)
    async def by_date(self, asked: EntryPage) -> EntryDone:
        """Let in whose date has come round, of the next people; repeated, it lets in whom it missed."""
        return await self._page(date_entries.page, asked)

    @activity.defn(name=ENTER_BY_CRON)
    async def by_cron(self, asked: EntryPage) -> EntryDone:
        """Let in the next people of the segment; repeated, it lets in whom it missed."""
        return await self._page(cron_entries.page, asked)

    async def _page(
        self, page: Callable[[TenantSession, EntryPage], Awaitable[EntryDone]], asked: EntryPage
    ) -> EntryDone:
        try:
            async with alive(), self._database.tenant(asked.entry.tenant_id) as session:
                return await page(session, asked)
        except (PlatformError, DBAPIError) as error:
            # An error's own text may hold people's data, and this goes into a history.
            code, permanent = verdict(error)
            raise ApplicationError(code, type=code, non_retryable=permanent) from None
