"""How a cohort passes through a journey, as durable code: signals in, steps and one timer out.

Who goes where is decided by `journeys.planner`; what a node does happens in one activity for all its members. The
workflow holds no more than the planner's state, so continue-as-new passes that on and nothing else. Each domain has a
workflow of its own that is driven so; a step of another domain's node runs on that domain's queue.
"""

import asyncio
from collections import deque
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from contracts.journeys import (
        LOCAL_SIZE,
        PARK,
        PROGRESS,
        RUN_STEP,
        SIGNAL,
        STAND,
        CohortInput,
        ParkRequest,
        StandRequest,
        StepRequest,
        StepResult,
        Stood,
        Told,
    )
    from journeys.definition import JourneyDefinition
    from journeys.members import decode, encode, everyone
    from journeys.nodes import domain_of
    from journeys.plan import Plan
    from journeys.planner import step
    from journeys.state import (
        ActivityResult,
        Done,
        Enrolled,
        Hold,
        Input,
        Leave,
        Matched,
        Moved,
        Release,
        Replan,
        Retry,
        Run,
        State,
        Summary,
        TimerFired,
        WakeAt,
    )

STEP_TIMEOUT = timedelta(minutes=5)
"""A step of 5,000 members takes a second or two; a store under load may need longer."""
LOST_AFTER = timedelta(seconds=10)
"""A worker that has not been heard of for so long is taken for dead; its step goes to another."""
LOCAL_TIMEOUT = timedelta(seconds=10)
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""


GOES_ON = "goes-on-from-where-they-came"
"""Since then who was moved off a wait goes on from where that leads, with no step to ask."""


class CohortDriver:
    """Walks one cohort until nobody is left in the journey."""

    def __init__(self, start: CohortInput) -> None:
        """Begin, or go on with the state that continue-as-new passed."""
        self._cohort = start.cohort
        self._graph = start.graph
        self._state = start.state or State()
        self._rehomed = start.rehomed and start.state is None
        self._inbox: deque[Input] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._wake: datetime | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._done = False
        self._definition = JourneyDefinition.model_validate(start.graph.definition)

    async def walk(self) -> None:
        """Drive the planner with what happens until it is done."""
        graph = self._graph
        plan = Plan(self._definition, graph.tenant_zone)
        if self._rehomed:
            self._state = await self._stand()
        for run in self._state.runs():
            self._begin(run)
        # What was told before this moment comes after it.
        self._inbox.appendleft(TimerFired() if self._state.started else Enrolled(everyone(graph.size)))
        while not self._done:
            await workflow.wait_condition(lambda: bool(self._inbox) or self._error is not None)
            if self._error is not None:
                raise self._error
            self._think(plan)
            if self._should_continue():
                workflow.continue_as_new(CohortInput(cohort=self._cohort, graph=graph, state=self._state))

    async def _stand(self) -> State:
        """Return where the members stand who were inside before. What was told meanwhile comes after it."""
        graph = self._graph
        request = StandRequest(
            cohort=self._cohort, version_id=graph.version_id, size=graph.size, tenant_zone=graph.tenant_zone
        )
        stood = await workflow.execute_activity(
            STAND,
            request,
            result_type=Stood,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )
        return stood.state

    def _think(self, plan: Plan) -> None:
        while self._inbox:
            self._state, commands = step(plan, self._state, self._inbox.popleft(), workflow.now())
            for command in commands:
                match command:
                    case Run():
                        self._begin(command)
                    case WakeAt(due):
                        self._set_timer(due)
                    case Done():
                        self._set_timer(None)
                        self._done = True

    def _should_continue(self) -> bool:
        # Steps that are running are begun again by the new run, and answer what they have done by then.
        return workflow.info().is_continue_as_new_suggested() and not self._done and not self._inbox

    def _set_timer(self, due: datetime | None) -> None:
        if due == self._wake and (self._timer is None or not self._timer.done()):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wake = due
        self._timer = None if due is None else asyncio.create_task(self._ring(due))

    async def _ring(self, due: datetime) -> None:
        await workflow.sleep(due - workflow.now())
        self._inbox.append(TimerFired())

    def _begin(self, run: Run) -> None:
        task = asyncio.create_task(self._execute(run))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()

    async def _execute(self, run: Run) -> None:
        size = self._graph.size
        request = StepRequest(
            cohort=self._cohort,
            version_id=self._graph.version_id,
            size=size,
            kind=run.kind,
            node=run.node,
            visit=run.visit,
            members=encode(run.members, size),
            timed_out=run.timed_out,
            onward=True,
        )
        try:
            result = await self._run_step(request)
        except (ActivityError, ApplicationError) as error:  # of an activity; of a local one, as the SDK has it
            result = await workflow.execute_activity(
                PARK,
                ParkRequest(step=request, error=_reason(error)),
                result_type=StepResult,
                start_to_close_timeout=STEP_TIMEOUT,
                heartbeat_timeout=LOST_AFTER,
                retry_policy=STORE_RETRY,
            )
        self._inbox.append(
            ActivityResult(
                command_id=run.id,
                outcomes={outcome: decode(text, size) for outcome, text in result.outcomes.items()},
                waits=tuple((due.at, decode(due.members, size)) for due in result.waits),
                listening=decode(result.listening, size),
                held=decode(result.held, size),
                parked=decode(result.parked, size),
                gone=decode(result.gone, size),
                arrived=tuple((come.node, come.visit, decode(come.members, size)) for come in result.arrived),
            )
        )

    async def _run_step(self, request: StepRequest) -> StepResult:
        queue = self._foreign_queue(request)
        if queue is None and request.size <= LOCAL_SIZE:
            return await workflow.execute_local_activity(
                RUN_STEP,
                request,
                result_type=StepResult,
                start_to_close_timeout=LOCAL_TIMEOUT,
                retry_policy=STORE_RETRY,
            )
        return await workflow.execute_activity(
            RUN_STEP,
            request,
            task_queue=queue,
            result_type=StepResult,
            start_to_close_timeout=STEP_TIMEOUT,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )

    def _foreign_queue(self, request: StepRequest) -> str | None:
        """Return the queue of the domain that does what the node does; None where it is our own, or any can."""
        domain = domain_of(self._definition.nodes[request.node]) if request.kind == "act" else None
        # By domain, not by the queue this runs on: a replayer runs on none of ours.
        return None if domain in {None, self._cohort.domain} else self._graph.queues.get(domain or "")

    @workflow.signal(name=SIGNAL)
    def tell(self, told: Told) -> None:
        """Take note of what Postgres decided about members."""
        self._inbox.append(_as_input(told, self._graph.size))

    @workflow.query(name=PROGRESS)
    def progress(self) -> Summary:
        """How many members are where, and what they do there."""
        return self._state.summary()


def _reason(error: ActivityError | ApplicationError) -> str:
    failure = error.cause if isinstance(error, ActivityError) else error
    return failure.message if isinstance(failure, ApplicationError) else str(failure or error)


def _as_input(told: Told, size: int) -> Input:
    members = decode(told.members, size)
    match told.kind:
        case "matched":
            on = told.outcome and workflow.patched(GOES_ON)
            here = told.node, told.visit
            return Moved(*here, told.outcome, members) if on else Matched(*here, members)
        case "leave":
            return Leave(members)
        case "hold":
            return Hold(members)
        case "release":
            return Release(members)
        case "retry":
            return Retry(members)
        case "replan":
            return Replan(members)
