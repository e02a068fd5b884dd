"""Activities of the search for duplicates: pages of it, each a transaction."""

from collections.abc import Callable
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from contracts.duplicates import ABANDON, ADVANCE, Abandoned, Advanced, DuplicateSearch
from core.database import Database
from core.errors import NotFoundError
from services.identity import duplicate_search

PAGES: Final = 200
"""A minute's work or less; then the workflow looks whether it was told to stop."""


class DuplicateActivities:
    """The store's side of searches, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.advance, self.abandon]

    @activity.defn(name=ADVANCE)
    async def advance(self, search: DuplicateSearch) -> Advanced:
        """Do the next pages. It may die anywhere and be begun again: what is done stands in the run's row."""
        for number in range(PAGES):
            try:
                async with self._database.tenant(search.tenant_id) as session:
                    done = await duplicate_search.advance(session, search.run_id)
            except NotFoundError as error:
                raise ApplicationError(error.detail, type="NotFound", non_retryable=True) from error
            activity.heartbeat(number)
            if done:
                return Advanced(done=True)
        return Advanced(done=False)

    @activity.defn(name=ABANDON)
    async def abandon(self, abandoned: Abandoned) -> None:
        """Note that a search ended early."""
        async with self._database.tenant(abandoned.search.tenant_id) as session:
            await duplicate_search.abandon(session, abandoned.search.run_id, abandoned.status, abandoned.error)
