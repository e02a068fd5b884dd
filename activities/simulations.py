"""Activities of simulations: one transaction that reads, and one that keeps what came of it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from activities.verdicts import verdict
from contracts.simulations import FAIL, RUN, SimulationFailure, SimulationRef
from core.database import Database
from core.errors import PlatformError
from services.crm.simulated_deals import Sales
from services.journeys.simulation import runs
from services.journeys.simulation.world import Domains
from services.marketing.simulated_sends import Sends


def domains(begin: datetime) -> Domains:
    """Return what marketing and sales give to a simulation that begins then."""
    sales = Sales()
    return Domains({**Sends(begin).answers, **sales.answers}, sales.follow)


class SimulationActivities:
    """The store's side of simulations, for one process."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.run, self.fail]

    @activity.defn(name=RUN)
    async def run(self, ref: SimulationRef) -> None:
        """Simulate, and keep the report; one that is over already is left as it is."""
        try:
            async with alive():
                async with self._database.tenant(ref.tenant_id) as session:
                    running = await runs.begin(session, ref.simulation_id)
                if running:
                    async with self._database.tenant(ref.tenant_id) as session:
                        await runs.compute(session, ref.simulation_id, domains)
        except (PlatformError, DBAPIError, asyncpg.PostgresError) as error:
            # An error's own text may hold people's data, and this goes into a history.
            code, permanent = verdict(error)
            raise ApplicationError(code, type=code, non_retryable=permanent) from None

    @activity.defn(name=FAIL)
    async def fail(self, failure: SimulationFailure) -> None:
        """Note that it cannot be done."""
        async with self._database.tenant(failure.ref.tenant_id) as session:
            await runs.fail(session, failure.ref.simulation_id, failure.error)
