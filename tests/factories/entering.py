"""Journeys entered by the clock, by a real worker on a task queue of the test's own."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Interceptor, Worker

from activities.journey_entries import JourneyEntryActivities
from contracts.journey_entries import BY_CRON, EntryInput
from core.actor import CLI
from models import WorkflowSchedule
from services.marketing.segments import definitions, membership
from tests.factories.marketing import Marketing, walk
from tests.factories.segmenting import Segments
from workflows.journey_entry import JourneyByCronWorkflow, JourneyByDateWorkflow


def usher(client: Client, marketing: Marketing, *, interceptors: Sequence[Interceptor] = ()) -> Worker:
    """Return a worker that lets people in by the clock, and does nothing else."""
    return Worker(
        client,
        task_queue=f"marketing-{uuid4().hex}",
        workflows=[JourneyByDateWorkflow, JourneyByCronWorkflow],
        activities=JourneyEntryActivities(marketing.database).all(),
        interceptors=interceptors,
    )


async def weekly(marketing: Marketing, people: int) -> None:
    """Publish a journey for everybody in a segment of so many people, each Monday."""
    await Segments(marketing).add("loyal")
    async with marketing.session() as session:
        segment = await definitions.find(session, "loyal")
        ids = await marketing.people(people, consent=False)
        await membership.add(session, segment, ids, source="manual", live=set(ids), by=CLI)
    entry = {"cron": "0 9 * * 1", "segment": "loyal", "again": {"mode": "always"}}
    await marketing.journey(walk(entry=entry, wait={"type": "wait", "for": "P1D", "next": "done"}))


async def scheduled(marketing: Marketing) -> WorkflowSchedule:
    """Return the tenant's one schedule."""
    async with marketing.session() as session:
        return (
            await session.scalars(select(WorkflowSchedule).where(WorkflowSchedule.tenant_id == session.tenant_id))
        ).one()


async def begun(worker: Worker, marketing: Marketing) -> WorkflowHandle[Any, int]:
    """Start what the tenant's one schedule would start now."""
    row = await scheduled(marketing)
    return await worker.client.start_workflow(
        JourneyByCronWorkflow.run if row.workflow == BY_CRON else JourneyByDateWorkflow.run,
        EntryInput.model_validate(row.input),
        id=f"{row.workflow}/{row.tenant_id}/{row.id}-{uuid4()}",
        task_queue=worker.task_queue,
    )
