"""The activity of the recomputation of attribution: one page, one transaction."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from contracts.attribution import RECOMPUTE, AttributionInput, Recredited
from core.database import Database
from services.marketing.outcomes import attribution


class AttributionActivities:
    """The store's side of attribution, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.recompute]

    @activity.defn(name=RECOMPUTE)
    async def recompute(self, request: AttributionInput) -> Recredited:
        """Credit the orders of the next people again; repeating it changes nothing."""
        async with self._database.tenant(request.tenant_id) as session:
            _, after = await attribution.recompute_page(
                session, since=request.since, until=request.until, after=request.after
            )
        return Recredited(after=after)
