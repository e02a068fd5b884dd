"""The same five-node journey walked three ways: by cohorts, by one workflow per person, by its SQL alone."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from temporalio.client import Client
from temporalio.worker import Worker

from activities.journeys import JourneyActivities
from bench.harness import Tenant
from bench.person import PATH, PersonInput, PersonWorkflow
from contracts.journeys import CohortRef
from core.database import Database
from journeys.members import everyone
from models import Cohort, Enrollment
from relay.cohorts import CohortStarter
from services.journeys import enrollments, steps
from services.journeys.enrollments import Candidate
from services.journeys.members import CohortMembers
from services.journeys.steps import Actions
from services.journeys.versions import LoadedVersion
from services.marketing import journey_sends
from worker import marketing_worker

DEFINITION: dict[str, Any] = {
    "entry": {"api": True, "again": {"mode": "always"}},
    "start": "hello",
    "nodes": {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "pause"},
        "pause": {"type": "wait", "for": "PT0.001S", "next": "odd"},
        "odd": {
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.n", "op": ">", "value": 0}, "next": "offer"}],
            "otherwise": "done",
        },
        "offer": {"type": "send", "channel": "email", "template": "offer", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.offered": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}
"""send, wait, branch, send, update: five step rows and two messages a person."""

_POLL_SECONDS = 0.05


async def prepared(tenant: Tenant) -> LoadedVersion:
    """Publish the journey with its templates."""
    await tenant.template("hello")
    await tenant.template("offer")
    return await tenant.journey("bench", DEFINITION)


async def enroll(
    tenant: Tenant, version: LoadedVersion, people: Sequence[UUID], *, entry: Mapping[str, Any] | None = None
) -> None:
    """Let people in; the rows are committed."""
    async with tenant.database.tenant(tenant.id) as session:
        candidates = [Candidate(subject_id=person_id, entry=entry or {}) for person_id in people]
        done = await enrollments.enroll(
            session, version, candidates, again=version.definition.by_api.again, source="api"
        )
        if len(done.enrollment_ids) != len(people):
            raise RuntimeError(f"only {len(done.enrollment_ids)} of {len(people)} entered")


async def finished(tenant: Tenant) -> None:
    """Return when nobody is in a journey any more."""
    inside = select(Enrollment.id).where(Enrollment.tenant_id == tenant.id, Enrollment.ended_at.is_(None)).limit(1)
    while True:
        async with tenant.database.tenant(tenant.id) as session:
            if await session.scalar(inside) is None:
                return
        await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def walker(tenant: Tenant) -> AsyncGenerator[None]:
    """Run what walks cohorts, in this process: the worker and the starter of cohorts."""
    stop = asyncio.Event()
    starter = CohortStarter(tenant.database, tenant.client, eager=True)
    async with marketing_worker(
        tenant.client, JourneyActivities(tenant.database, journey_sends.ACTIONS, lambda: None).all()
    ):
        running = asyncio.create_task(starter.run(stop))
        try:
            yield
        finally:
            stop.set()
            await running


async def walk(tenant: Tenant, version: LoadedVersion, people: Sequence[UUID]) -> float:
    """Seconds from letting people in until the last has left, inside `walker`."""
    began = time.perf_counter()
    await enroll(tenant, version, people)
    await finished(tenant)
    return time.perf_counter() - began


async def by_sql(tenant: Tenant, version: LoadedVersion, people: Sequence[UUID]) -> float:
    """Seconds for the same statements in the same pages, one after another, without Temporal."""
    began = time.perf_counter()
    await enroll(tenant, version, people)
    async with tenant.database.tenant(tenant.id) as session:
        cohorts = (
            await session.execute(
                select(Cohort.id, Cohort.size).where(Cohort.tenant_id == tenant.id, Cohort.started_at.is_(None))
            )
        ).all()
    for cohort in cohorts:
        members = CohortMembers(tenant.id, cohort.id, cohort.size, everyone(cohort.size))
        for node in PATH:
            kind = "leave_wait" if node == "pause" else "act"
            async with tenant.database.tenant(tenant.id) as session:
                await steps.run(
                    session,
                    steps.Step(version, kind, node, 1, timed_out=False, attempt=1, actions=journey_sends.ACTIONS),
                    members,
                )
    seconds = time.perf_counter() - began
    await started(tenant.database)
    return seconds


async def started(database: Database) -> None:
    """Mark every cohort as started, so that no walker takes it up."""
    async with database.system() as session:
        await session.execute(update(Cohort).values(started_at=func.now()).where(Cohort.started_at.is_(None)))


async def _nothing(_: UUID) -> None:
    pass


async def one_by_one(
    tenant: Tenant,
    version: LoadedVersion,
    subjects: Sequence[UUID],
    *,
    path: Sequence[str] = PATH,
    actions: Actions = journey_sends.ACTIONS,
    first: Callable[[UUID], Awaitable[None]] = _nothing,
) -> float:
    """Seconds for one workflow per subject, rows and durability the same, `first` done before; 20 at a time."""
    queue = f"bench-{uuid4().hex[:8]}"
    activities = JourneyActivities(tenant.database, actions, lambda: None)
    places = asyncio.Semaphore(20)

    async def one(client: Client, subject_id: UUID) -> None:
        async with places:
            await first(subject_id)
            await enroll(tenant, version, [subject_id])
            async with tenant.database.tenant(tenant.id) as session:
                cohort_id = (
                    await session.scalars(
                        select(Enrollment.cohort_id)
                        .where(Enrollment.tenant_id == tenant.id, Enrollment.subject_id == subject_id)
                        .order_by(Enrollment.entered_at.desc())
                        .limit(1)
                    )
                ).one()
            cohort = CohortRef(tenant_id=tenant.id, journey_id=version.journey_id, cohort_id=cohort_id)
            handle = await client.start_workflow(
                PersonWorkflow.run,
                PersonInput(cohort=cohort, version_id=version.id, path=tuple(path)),
                id=f"person/{subject_id}/{uuid4().hex}",
                task_queue=queue,
                request_eager_start=True,
            )
        await handle.result()

    async with Worker(
        tenant.client,
        task_queue=queue,
        workflows=[PersonWorkflow],
        activities=activities.all(),
        max_concurrent_activities=20,
    ):
        began = time.perf_counter()
        await asyncio.gather(*(one(tenant.client, subject_id) for subject_id in subjects))
        seconds = time.perf_counter() - began
    await started(tenant.database)
    return seconds
