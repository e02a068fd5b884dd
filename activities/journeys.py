"""Activities of journeys: each opens one transaction, calls a service and answers with a contract."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from contracts.journeys import (
    LOAD_COHORT,
    PARK,
    RUN_STEP,
    CohortGraph,
    CohortRef,
    Due,
    ParkRequest,
    StepRequest,
    StepResult,
)
from core.database import Database, TenantSession
from core.errors import NotFoundError
from journeys.members import decode, encode
from services.marketing import steps, versions
from services.marketing.members import CohortMembers

HEARTBEAT_SECONDS = 2.0
"""Well within the time after which the workflow gives a worker up."""


_COHORT = """
SELECT c.size, c.version_id, v.definition, t.time_zone
FROM cohort c
JOIN journey_version v ON v.tenant_id = c.tenant_id AND v.id = c.version_id
JOIN tenant t ON t.id = c.tenant_id
WHERE c.tenant_id = $1 AND v.tenant_id = $1 AND t.id = $1 AND c.id = $2
"""


class JourneyActivities:
    """The store's side of journeys, for one process."""

    def __init__(self, database: Database, wake_sender: Callable[[], None]) -> None:
        """Use `database`; call `wake_sender` when a step may have queued messages."""
        self._database = database
        self._wake_sender = wake_sender

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.load_cohort, self.run_step, self.park_members]

    @activity.defn(name=LOAD_COHORT)
    async def load_cohort(self, cohort: CohortRef) -> CohortGraph:
        """Read what a cohort walks."""
        async with self._database.hot(cohort.tenant_id) as connection:
            found = await connection.fetchrow(_COHORT, cohort.tenant_id, cohort.cohort_id)
        if found is None:
            raise ApplicationError(f"there is no cohort {cohort.cohort_id}", type="NotFound", non_retryable=True)
        return CohortGraph(
            size=found["size"],
            version_id=found["version_id"],
            definition=json.loads(found["definition"]),
            tenant_zone=found["time_zone"],
        )

    @activity.defn(name=RUN_STEP)
    async def run_step(self, request: StepRequest) -> StepResult:
        """Do what a node does for these members. Repeating it changes nothing and answers the same."""
        members = _members(request)
        try:
            async with _alive(), self._database.tenant(request.cohort.tenant_id) as session:
                done = await steps.run(session, await _step(session, request), members)
        except NotFoundError as error:
            raise ApplicationError(error.detail, type="NotFound", non_retryable=True) from error
        if request.kind == "act":
            self._wake_sender()
        return _result(done, request.size)

    @activity.defn(name=PARK)
    async def park_members(self, request: ParkRequest) -> StepResult:
        """Set aside, visibly, the members of a step that failed as a whole; say where each of them is now."""
        members = _members(request.step)
        async with _alive(), self._database.tenant(request.step.cohort.tenant_id) as session:
            step = await _step(session, request.step)
            return _result(await steps.park_all(session, step, members, request.error), request.step.size)


@asynccontextmanager
async def _alive() -> AsyncGenerator[None]:
    """Let Temporal know, while the block runs, that this worker lives. A local activity's workflow task says so."""
    told = None if activity.info().is_local else asyncio.create_task(_keep_telling(), name="heartbeat")
    try:
        yield
    finally:
        if told is not None:
            told.cancel()


async def _keep_telling() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_SECONDS)


def _members(request: StepRequest) -> CohortMembers:
    cohort = request.cohort
    return CohortMembers(cohort.tenant_id, cohort.cohort_id, request.size, decode(request.members, request.size))


async def _step(session: TenantSession, request: StepRequest) -> steps.Step:
    return steps.Step(
        version=await versions.load(session, request.version_id),
        kind=request.kind,
        node=request.node,
        visit=request.visit,
        timed_out=request.timed_out,
        attempt=activity.info().attempt,
    )


def _result(done: steps.StepOutcome, size: int) -> StepResult:
    return StepResult(
        outcomes={outcome: encode(mask, size) for outcome, mask in sorted(done.outcomes.items())},
        waits=tuple(Due(at=due, members=encode(mask, size)) for due, mask in sorted(done.waits.items())),
        held=encode(done.held, size),
        parked=encode(done.parked, size),
        gone=encode(done.gone, size),
    )
