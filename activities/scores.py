"""The activity of the recomputation of scores: one page, one transaction."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from contracts.scores import RECOMPUTE, Recomputed, ScoresInput
from core.database import Database
from services.identity import scoring


class ScoreActivities:
    """The store's side of scores, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.recompute]

    @activity.defn(name=RECOMPUTE)
    async def recompute(self, request: ScoresInput) -> Recomputed:
        """Recompute the next people; repeating it changes nothing."""
        async with self._database.tenant(request.tenant_id) as session:
            return Recomputed(after=await scoring.recompute_page(session, request.after, quiet=request.quiet))
