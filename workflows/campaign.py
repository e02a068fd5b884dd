"""A campaign as durable code: it waits until it is due, freezes its audience, has the test decided, and ends.

The store knows all about the run; the workflow knows what comes next, and when. What people do to a campaign they do in
the store, at once; a signal has it looked at again.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey

from workflows.failing import noting_failure

with workflow.unsafe.imports_passed_through():
    from contracts.campaigns import (
        BEGIN_OCCURRENCE,
        DECIDE,
        FAIL,
        FREEZE,
        LOOK,
        OCCURRENCE_WORKFLOW,
        RELEASE,
        WAKE,
        WATCH,
        WORKFLOW,
        CampaignInput,
        OccurrenceDue,
        OccurrenceInput,
        Outlook,
        RunFailure,
        Slice,
    )

SHORT = timedelta(minutes=1)
SLICE = timedelta(minutes=30)
"""An activity returns after some minutes, so that no worker is held for as long as a campaign takes."""
LOST_AFTER = timedelta(seconds=15)
"""A worker that has not been heard of for so long is taken for dead."""
SHORTEST_WAIT = timedelta(milliseconds=500)
"""Clocks of machines differ: what is due by one is not yet due by the other."""
LONGEST_WAIT = timedelta(days=1)
"""It is looked at so often, whatever was said: should a signal have been lost."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""
SCHEDULED_AT = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""For when Temporal's schedule started a workflow, which may be a little later."""


Result = TypeVar("Result", Outlook, Slice)


@workflow.defn(name=WORKFLOW)
class CampaignWorkflow:
    """Sends one run of a campaign."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._outlook = Outlook(next="wait")
        self._woken = False

    @workflow.run
    async def run(self, wanted: CampaignInput) -> str:
        """Go on until the run has ended; return how."""

        async def note(code: str) -> None:
            await workflow.execute_activity(
                FAIL, RunFailure(run=wanted, error=code), start_to_close_timeout=SHORT, retry_policy=STORE_RETRY
            )

        done = await noting_failure(self._to_the_end(wanted), note)
        return self._outlook.status if done else "failed"

    async def _to_the_end(self, wanted: CampaignInput) -> None:
        while (await self._step(wanted)).next != "done":
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(wanted)

    @workflow.signal(name=WAKE)
    def wake(self) -> None:
        """Look again: somebody paused, resumed, cancelled or changed it."""
        self._woken = True

    @workflow.query
    def progress(self) -> Outlook:
        """Return what was seen last, and what comes next."""
        return self._outlook

    async def _step(self, wanted: CampaignInput) -> Outlook:
        self._woken = False
        self._outlook = await workflow.execute_activity(
            LOOK, wanted, result_type=Outlook, start_to_close_timeout=SHORT, retry_policy=STORE_RETRY
        )
        if self._outlook.next == "watch":
            self._outlook = await self._long(WATCH, wanted, Outlook)
        if self._outlook.next in {"freeze", "decide", "release"}:
            work = {"freeze": FREEZE, "decide": DECIDE, "release": RELEASE}[self._outlook.next]
            await self._long(work, wanted, Slice)
        elif self._outlook.next == "wait":
            await self._wait(self._outlook.at)
        return self._outlook

    @staticmethod
    async def _long(name: str, wanted: CampaignInput, result: type[Result]) -> Result:
        return await workflow.execute_activity(
            name,
            wanted,
            result_type=result,
            start_to_close_timeout=SLICE,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )

    async def _wait(self, at: datetime | None) -> None:
        timeout = LONGEST_WAIT if at is None else min(max(at - workflow.now(), SHORTEST_WAIT), LONGEST_WAIT)
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._woken, timeout=timeout, timeout_summary="next moment")


@workflow.defn(name=OCCURRENCE_WORKFLOW)
class CampaignOccurrenceWorkflow:
    """Begins the run of a recurring campaign that is due; the run has a workflow of its own, so none is in its way."""

    @workflow.run
    async def run(self, wanted: OccurrenceInput) -> None:
        """Begin it."""
        due_at = workflow.info().typed_search_attributes.get(SCHEDULED_AT) or workflow.info().start_time
        await workflow.execute_activity(
            BEGIN_OCCURRENCE,
            OccurrenceDue(tenant_id=wanted.tenant_id, campaign_id=wanted.campaign_id, due_at=due_at),
            start_to_close_timeout=SHORT,
            retry_policy=STORE_RETRY,
        )
