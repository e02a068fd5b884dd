"""Entering a journey by the clock, as durable code: the people of one occurrence, a page after the other.

A page is an activity and a transaction that knows whom it let in, so whenever it dies the next attempt does the rest.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from contracts.journey_entries import (
        BY_CRON,
        BY_DATE,
        ENTER_BY_CRON,
        ENTER_BY_DATE,
        EntryDone,
        EntryInput,
        EntryPage,
    )

PAGE_TIMEOUT = timedelta(minutes=2)
LOST_AFTER = timedelta(seconds=15)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""
SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""For when Temporal's schedule started a workflow, which may be a little later."""


@workflow.defn(name=BY_DATE)
class JourneyByDateWorkflow:
    """Lets in whose date has come round since it last looked."""

    @workflow.run
    async def run(self, start: EntryInput) -> int:
        """Do pages until everybody is done; return how many entered."""
        return await _pages(ENTER_BY_DATE, start)


@workflow.defn(name=BY_CRON)
class JourneyByCronWorkflow:
    """Lets in everybody who is in a segment, each time that it is due."""

    @workflow.run
    async def run(self, start: EntryInput) -> int:
        """Do pages until everybody is done; return how many entered."""
        return await _pages(ENTER_BY_CRON, start)


async def _pages(activity: str, start: EntryInput) -> int:
    info = workflow.info()
    due_at = start.due_at or info.typed_search_attributes.get(SCHEDULED_AT) or info.start_time
    entry = start.model_copy(update={"due_at": due_at})
    while True:
        done = await workflow.execute_activity(
            activity,
            EntryPage(entry=entry, due_at=due_at),
            result_type=EntryDone,
            start_to_close_timeout=PAGE_TIMEOUT,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )
        entry = entry.model_copy(update={"after": done.after, "entered": entry.entered + done.entered})
        if done.after is None:
            return entry.entered
        if workflow.info().is_continue_as_new_suggested():
            workflow.continue_as_new(entry)
