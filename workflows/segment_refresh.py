"""The computation of a segment for everybody, as durable code. The store knows how far it has come.

The long part is an activity that takes page after page, each in a transaction that moves the position too: whenever it
dies, the next attempt begins at the next page.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.failing import noting_failure

with workflow.unsafe.imports_passed_through():
    from contracts.segments import (
        BEGIN,
        FAIL,
        RUN,
        WORKFLOW,
        RefreshFailure,
        RefreshInput,
        RefreshProgress,
        RefreshRef,
    )

SHORT = timedelta(minutes=1)
SLICE = timedelta(minutes=30)
"""An activity returns after some minutes, so that no worker is held for as long as a segment takes."""
LOST_AFTER = timedelta(seconds=15)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""


@workflow.defn(name=WORKFLOW)
class SegmentRefreshWorkflow:
    """Looks at all people of a tenant once."""

    @workflow.run
    async def run(self, wanted: RefreshInput) -> None:
        """Go on until everybody was looked at, a newer computation takes over, or it cannot go on."""
        ref = RefreshRef(tenant_id=wanted.tenant_id, run_id=wanted.run_id)
        if wanted.run_id is None:
            ref = await workflow.execute_activity(
                BEGIN, wanted, result_type=RefreshRef, start_to_close_timeout=SHORT, retry_policy=STORE_RETRY
            )
        if ref.run_id is None:
            return
        await noting_failure(
            self._to_the_end(ref),
            lambda code: workflow.execute_activity(
                FAIL,
                RefreshFailure(ref=ref, error=code),
                start_to_close_timeout=SHORT,
                retry_policy=STORE_RETRY,
            ),
        )

    async def _to_the_end(self, ref: RefreshRef) -> None:
        while not (await self._slice(ref)).done:
            pass

    @staticmethod
    async def _slice(ref: RefreshRef) -> RefreshProgress:
        return await workflow.execute_activity(
            RUN,
            ref,
            result_type=RefreshProgress,
            start_to_close_timeout=SLICE,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )
