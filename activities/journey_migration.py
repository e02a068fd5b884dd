"""Activities of migrations: people are moved in pages, each in a transaction that moves the position too."""

import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from activities.verdicts import verdict
from contracts.journey_migration import FAIL, MIGRATE, MigrationFailure, MigrationProgress, MigrationRef
from core.database import Database
from core.errors import PlatformError
from services.journeys import migrating

SLICE_SECONDS: Final = 300.0
"""After so long the activity returns, and is called again: no worker is held for as long as a journey takes."""


class MigrationActivities:
    """The store's side of migrations, for one process."""

    def __init__(self, database: Database, *, page: int = migrating.PAGE) -> None:
        """Use `database`, and move so many people a transaction."""
        self._database = database
        self._page = page

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.migrate, self.fail]

    @activity.defn(name=MIGRATE)
    async def migrate(self, ref: MigrationRef) -> MigrationProgress:
        """Move people until all are, or some minutes are over."""
        ends = time.monotonic() + SLICE_SECONDS
        try:
            async with alive():
                while time.monotonic() < ends:
                    async with self._database.tenant(ref.tenant_id) as session:
                        if await migrating.take_page(session, ref.migration_id, size=self._page):
                            return MigrationProgress(done=True)
        except (PlatformError, DBAPIError) as error:
            # An error's own text may hold people's data, and this goes into a history.
            code, permanent = verdict(error)
            raise ApplicationError(code, type=code, non_retryable=permanent) from None
        return MigrationProgress(done=False)

    @activity.defn(name=FAIL)
    async def fail(self, failure: MigrationFailure) -> None:
        """Note that the migration cannot go on."""
        async with self._database.tenant(failure.ref.tenant_id) as session:
            await migrating.fail(session, failure.ref.migration_id, failure.error)
