"""A campaign a month out, on the server whose clock skips: over a restart and a release, and sent once at its time."""

import asyncio
from datetime import datetime, timedelta

from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.campaigns import CampaignActivities
from contracts.campaigns import WORKFLOW, CampaignInput
from services.marketing.campaigns import control
from tests.eventually import eventually
from tests.factories.campaigning import campaigning, schedule
from tests.factories.marketing import Marketing
from workflows.campaign import CampaignWorkflow

MONTH = timedelta(days=30)
NEAR = timedelta(minutes=2)
"""The skipping clock goes on while work is done."""


@workflow.defn(name=WORKFLOW)
class NextRelease(CampaignWorkflow):
    """The workflow as a release might change it: what is new is guarded, so runs that began before do without it."""

    @workflow.run
    async def run(self, wanted: CampaignInput) -> str:
        """Go on as before where it began before."""
        if workflow.patched("a-greeting-first"):
            await workflow.sleep(1)
        return await super().run(wanted)


def scheduled_time() -> datetime:
    """Return what time it is for the server whose clock skips."""
    return activity.info().current_attempt_scheduled_time


async def test_a_campaign_a_month_out_survives_a_restart_and_a_release(
    marketing: Marketing, time_skipping_env: WorkflowEnvironment
) -> None:
    desk = campaigning(marketing, time_skipping_env.client)
    at = await time_skipping_env.get_current_time() + MONTH
    people = await marketing.people(5)
    campaign = await desk.campaign(people, schedule=schedule(at=at.isoformat()))
    await desk.do(control.schedule, campaign)
    await desk.owed()
    handle = await desk.handle(campaign)

    async def happened(kind: EventType.ValueType) -> int:
        return len([event async for event in handle.fetch_history_events() if event.event_type == kind])

    # without a cache: the skipping server would wait for ever for the queue of a worker that is gone
    async with desk.worker(clock=scheduled_time, cached=0):
        await eventually(lambda: happened(EventType.EVENT_TYPE_TIMER_STARTED))
    # the process is gone; what comes up is the next release
    async with Worker(
        time_skipping_env.client,
        task_queue=desk.queue,
        workflows=[NextRelease],
        activities=CampaignActivities(marketing.database, clock=scheduled_time).all(),
        workflow_runner=UnsandboxedWorkflowRunner(),  # this module imports what no workflow may
        max_cached_workflows=0,
    ):
        skipping = asyncio.create_task(time_skipping_env.sleep(MONTH))

        async def finished() -> bool:
            await desk.deliver()
            return (await desk.run(campaign)).status == "finished"

        await eventually(finished, seconds=120)  # a look a day
        await skipping
        assert await handle.result() == "finished"
    run = await desk.run(campaign)
    assert run.started_at is not None
    assert at <= run.started_at < at + NEAR
    found = await desk.messages()
    assert {person: message.status for person, (message, _) in found.items()} == dict.fromkeys(people, "sent")
    patched = await happened(EventType.EVENT_TYPE_MARKER_RECORDED)
    assert not patched, "it began before the release, so it goes on as it was"
