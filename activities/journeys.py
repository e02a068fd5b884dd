"""Activities of journeys: each opens one transaction, calls a service and answers with a contract."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.heartbeats import alive
from contracts.journeys import (
    PARK,
    RUN_STEP,
    STAND,
    Arrived,
    Due,
    ParkRequest,
    StandRequest,
    StepRequest,
    StepResult,
    Stood,
)
from core import tracing
from core.database import Database, TenantSession
from core.errors import NotFoundError, PlatformError
from core.metrics import MEMBERS_PARKED
from journeys.members import decode, encode
from services.journeys import standing, steps, versions
from services.journeys.members import CohortMembers
from services.journeys.steps import Actions, Step


class JourneyActivities:
    """The store's side of journeys, for one process."""

    def __init__(self, database: Database, actions: Actions, wake_sender: Callable[[], None]) -> None:
        """Have nodes do what `actions` says; call `wake_sender` when a step may have queued messages."""
        self._database = database
        self._actions = actions
        self._wake_sender = wake_sender

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.run_step, self.park_members, self.stand]

    @activity.defn(name=RUN_STEP)
    async def run_step(self, request: StepRequest) -> StepResult:
        """Do what a node does for these members. Repeating it changes nothing and answers the same."""
        members = _members(request)
        _annotate(request)
        try:
            async with alive():
                done = await self._run(request, members)
        except NotFoundError as error:
            raise ApplicationError(error.detail, type="NotFound", non_retryable=True) from error
        if request.kind == "act":
            self._wake_sender()
        return _result(done, request)

    async def _run(self, request: StepRequest, members: CohortMembers) -> steps.StepOutcome:
        tenant_id = request.cohort.tenant_id
        several = False
        try:
            async with self._database.tenant(tenant_id) as session:
                step = await self._step(session, request)
                going_on = steps.going_on(step) if request.onward else step
                several = bool(going_on.onward)
                return await steps.run(session, going_on, members, isolating=False)
        except DBAPIError as error:
            if steps.permanent(error) is None:
                raise
        except PlatformError:
            if not several:
                raise  # else it may be of a node that follows: that one is to fail alone
        # Somebody's data is at fault: once more, with savepoints that cost round trips, to find out whose.
        async with self._database.tenant(tenant_id) as session:
            return await steps.run(session, await self._step(session, request), members)

    @activity.defn(name=PARK)
    async def park_members(self, request: ParkRequest) -> StepResult:
        """Set aside, visibly, the members of a step that failed as a whole; say where each of them is now."""
        members = _members(request.step)
        async with alive(), self._database.tenant(request.step.cohort.tenant_id) as session:
            step = await self._step(session, request.step)
            return _result(await steps.park_all(session, step, members, request.error), request.step)

    @activity.defn(name=STAND)
    async def stand(self, request: StandRequest) -> Stood:
        """Say where the members stand of a cohort that was made of people inside the journey."""
        async with alive(), self._database.tenant(request.cohort.tenant_id) as session:
            version = await versions.load(session, request.version_id)
            state = await standing.take_up(
                session, version, request.cohort.cohort_id, size=request.size, tenant_zone=request.tenant_zone
            )
        return Stood(state=state)

    async def _step(self, session: TenantSession, request: StepRequest) -> Step:
        return Step(
            version=await versions.load(session, request.version_id),
            kind=request.kind,
            node=request.node,
            visit=request.visit,
            timed_out=request.timed_out,
            attempt=activity.info().attempt,
            actions=self._actions,
            apart=partial(self._apart, request.cohort.tenant_id),
        )

    async def _apart(self, tenant_id: UUID, statement: str, *arguments: object) -> Any:  # noqa: ANN401 - the statement's
        async with self._database.hot(tenant_id) as connection:
            return await connection.fetchval(statement, *arguments)


def _annotate(request: StepRequest) -> None:
    if tracing.on():
        cohort = request.cohort
        tracing.annotate(
            {
                tracing.TENANT: str(cohort.tenant_id),
                tracing.JOURNEY: str(cohort.journey_id),
                tracing.COHORT: str(cohort.cohort_id),
                tracing.NODE: request.node,
                tracing.COUNT: request.size,
            }
        )


def _members(request: StepRequest) -> CohortMembers:
    cohort = request.cohort
    return CohortMembers(cohort.tenant_id, cohort.cohort_id, request.size, decode(request.members, request.size))


def _result(done: steps.StepOutcome, request: StepRequest) -> StepResult:
    size = request.size
    if done.parked:
        MEMBERS_PARKED.labels(request.cohort.domain).inc(done.parked.bit_count())
    return StepResult(
        outcomes={outcome: encode(mask, size) for outcome, mask in sorted(done.outcomes.items())},
        waits=tuple(Due(at=due, members=encode(mask, size)) for due, mask in sorted(done.waits.items())),
        listening=encode(done.listening, size),
        held=encode(done.held, size),
        parked=encode(done.parked, size),
        gone=encode(done.gone, size),
        arrived=tuple(
            Arrived(node=node, visit=visit, members=encode(mask, size))
            for (node, visit), mask in sorted(done.arrived.items())
        ),
    )
