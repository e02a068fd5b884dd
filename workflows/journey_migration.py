"""The moving of those inside a journey to another version, as durable code. The store knows how far it has come.

The long part is an activity that takes page after page, each in a transaction that moves the position too: whenever it
dies, the next attempt begins at the next page.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.failing import noting_failure

with workflow.unsafe.imports_passed_through():
    from contracts.journey_migration import (
        FAIL,
        MIGRATE,
        WORKFLOW,
        MigrationFailure,
        MigrationProgress,
        MigrationRef,
    )

SHORT = timedelta(minutes=1)
SLICE = timedelta(minutes=30)
"""An activity returns after some minutes, so that no worker is held for as long as a journey takes."""
LOST_AFTER = timedelta(seconds=10)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""


@workflow.defn(name=WORKFLOW)
class JourneyMigrationWorkflow:
    """Moves everybody once."""

    @workflow.run
    async def run(self, ref: MigrationRef) -> None:
        """Go on until everybody was dealt with, another migration takes over, or it cannot go on."""
        await noting_failure(
            self._to_the_end(ref),
            lambda code: workflow.execute_activity(
                FAIL,
                MigrationFailure(ref=ref, error=code),
                start_to_close_timeout=SHORT,
                retry_policy=STORE_RETRY,
            ),
        )

    async def _to_the_end(self, ref: MigrationRef) -> None:
        while not (await self._slice(ref)).done:
            pass

    @staticmethod
    async def _slice(ref: MigrationRef) -> MigrationProgress:
        return await workflow.execute_activity(
            MIGRATE,
            ref,
            result_type=MigrationProgress,
            start_to_close_timeout=SLICE,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )
