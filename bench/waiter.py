"""`waiter`: from an event to the next step of the one who waits for it, among 100,000 who wait for their own.

Ours is the time from handing the event in until the step that takes its passage on is committed: by the relay, which
takes it off the wait. Shown beside it: until what the next node does is committed, by an activity. The reference, in
the same process and on the same servers, is an INSERT of the event, a signal to one workflow that waits for it, and its
activity.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import func, select
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

from activities.journeys import JourneyActivities
from bench import walking
from bench.bare_waiter import BareWaiter
from bench.harness import Ratio, Report, Servers, Tenant, median, tenant
from contracts.journeys import StepRequest
from core.actor import CLI
from core.wake import COHORT_CHANNEL
from models import Enrollment, EnrollmentStep, Waiter
from relay.cohorts import CohortStarter
from relay.consumers import CONSUMERS
from relay.loop import Relay
from services.events import ingest
from services.events.incoming import IncomingEvent
from services.journeys import steps
from services.journeys.members import CohortMembers
from services.marketing import journey_sends
from worker import marketing_worker

WAITING: Final = 100_000
SAMPLE: Final = 60
WARM_UP: Final = 15
REST_SECONDS: Final = 0.3
"""Before each of the two, for what the other set going: events of its change, the end of its workflow's task."""
TYPE: Final = "quiz.answered"
PAGE: Final = 5_000
STEPS: Final = 2
"""Off the wait, and what the next node does."""
DEFINITION: Final[dict[str, Any]] = {
    "entry": {"api": True},
    "start": "answer",
    "nodes": {
        "answer": {
            "type": "wait_for_event",
            "event": TYPE,
            "match": {"event.properties.round": "entry.round"},
            "timeout": "P1D",
            "matched": "mark",
            "timed_out": "done",
        },
        "mark": {"type": "update_person", "set": {"attributes.answered": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}
_INSERT: Final = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
VALUES ($1, tl_uuid7(), 'quiz.seen', $2, $2, '{"round": 1}')
"""


class Watched(JourneyActivities):
    """Activities, and a listener to the relay, that say when a step was committed."""

    left: "asyncio.Future[float] | None" = None
    acted: "asyncio.Future[float] | None" = None

    async def _run(self, request: StepRequest, members: CohortMembers) -> steps.StepOutcome:
        done = await super()._run(request, members)
        if self.acted is not None and not self.acted.done() and done.outcomes:
            self.acted.set_result(time.perf_counter())
        return done

    def committed(self, channels: AbstractSet[str]) -> None:
        """Take note of the relay's commit, if it moved somebody: then their workflow is owed the news."""
        if COHORT_CHANNEL in channels and self.left is not None and not self.left.done():
            self.left.set_result(time.perf_counter())


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure, the two in turns; see the module."""
    async with tenant(running, "waiter") as bench:
        version = await bench.journey("waiter", DEFINITION)
        people = await bench.people(WAITING)
        for begin in range(0, WAITING, PAGE):
            await walking.enroll(bench, version, people[begin : begin + PAGE], entry={"round": 1})
        waiting = select(func.count()).select_from(Waiter).where(Waiter.tenant_id == bench.id)
        async with bench.database.tenant(bench.id) as session:
            if await session.scalar(waiting) != WAITING:
                raise RuntimeError("not everybody waits")
        await bench.analyze()
        ours: list[float] = []
        acted: list[float] = []
        bare: list[float] = []
        # From all cohorts in turns, one of each after the other.
        chosen = [people[(number * 7_919) % WAITING] for number in range(SAMPLE + WARM_UP)]
        async with _ours(bench) as watched, _bare(bench) as (handle, inserted):
            for person_id in chosen:
                await asyncio.sleep(REST_SECONDS)
                left, next_done = await _answered(bench, watched, person_id)
                ours.append(left)
                acted.append(next_done)
                await asyncio.sleep(REST_SECONDS)
                bare.append(await _signalled(bench, handle, inserted, person_id))
    mine, reference = median(ours[WARM_UP:]), median(bare[WARM_UP:])
    report(f"event to the step that takes it on {mine * 1000:.1f} ms, bare {reference * 1000:.1f} ms")
    report(f"to the end of the next node's act {median(acted[WARM_UP:]) * 1000:.1f} ms; {WAITING:,} waiting")
    return [Ratio("waiter", mine / reference, 1.5, at_least=False)]


async def _answered(bench: Tenant, watched: Watched, person_id: UUID) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    watched.left, watched.acted = loop.create_future(), loop.create_future()
    event = IncomingEvent(TYPE, person_id, (), '{"round": 1}', datetime.now(UTC), live=True, idempotency_key=None)
    began = time.perf_counter()
    async with bench.database.hot(bench.id) as connection:
        await ingest.accept(connection, bench.id, event, by=CLI)
    bench.database.wake()
    left = await asyncio.wait_for(watched.left, 30) - began
    acted = await asyncio.wait_for(watched.acted, 30) - began
    async with bench.database.tenant(bench.id) as session:
        taken = (
            select(func.count())
            .select_from(Enrollment)
            .join(EnrollmentStep, EnrollmentStep.enrollment_id == Enrollment.id)
            .where(
                Enrollment.tenant_id == bench.id,
                EnrollmentStep.tenant_id == bench.id,
                Enrollment.subject_id == person_id,
            )
        )
        if await session.scalar(taken) != STEPS:
            raise RuntimeError("not by these steps")
    return left, acted


async def _signalled(
    bench: Tenant, handle: WorkflowHandle[Any, Any], done: "asyncio.Queue[float]", person_id: UUID
) -> float:
    began = time.perf_counter()
    async with bench.database.hot(bench.id) as connection:
        await connection.execute(_INSERT, bench.id, person_id)
    await handle.signal(BareWaiter.tell)
    return await asyncio.wait_for(done.get(), 30) - began


@asynccontextmanager
async def _ours(bench: Tenant) -> AsyncGenerator[Watched]:
    """Run what a worker process runs for it: the relay with all consumers, the starter of cohorts, the worker."""
    stop = asyncio.Event()
    watched = Watched(bench.database, journey_sends.ACTIONS, lambda: None)
    starter = CohortStarter(bench.database, bench.client, eager=True)

    def committed(channels: AbstractSet[str]) -> None:
        watched.committed(channels)
        starter.committed(channels)

    relay = Relay(bench.database, CONSUMERS, on_committed=committed)
    async with marketing_worker(bench.client, watched.all()):
        tasks = [asyncio.create_task(starter.run(stop)), asyncio.create_task(relay.run(stop))]
        await asyncio.sleep(3)  # the cohorts are started and have set their timers
        try:
            yield watched
        finally:
            stop.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def _bare(bench: Tenant) -> "AsyncGenerator[tuple[WorkflowHandle[Any, Any], asyncio.Queue[float]]]":
    done: asyncio.Queue[float] = asyncio.Queue()
    queue = f"bench-{uuid4().hex[:8]}"

    @activity.defn(name="noted")
    async def noted() -> None:
        done.put_nowait(time.perf_counter())

    async with Worker(bench.client, task_queue=queue, workflows=[BareWaiter], activities=[noted]):
        handle = await bench.client.start_workflow(
            BareWaiter.run, id=queue, task_queue=queue, run_timeout=timedelta(hours=1)
        )
        try:
            yield handle, done
        finally:
            await handle.terminate()
