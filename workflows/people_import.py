"""Imports as durable code. The store knows how far a file has come; these see to it that somebody goes on.

The long part is an activity that takes page after page, each in a transaction that moves the position too: whenever it
dies, the next attempt begins at the next page.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.failing import noting_failure

with workflow.unsafe.imports_passed_through():
    from contracts.people_import import (
        CHECK,
        CHECK_WORKFLOW,
        FAIL,
        RUN,
        WORKFLOW,
        ImportFailure,
        ImportProgress,
        ImportRef,
    )

SLICE = timedelta(minutes=30)
"""An activity returns after some minutes, so that no worker is held for as long as a file lasts."""
WHOLE = timedelta(hours=12)
"""A check has to read the largest file in one go."""
LOST_AFTER = timedelta(seconds=15)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up; a permanent fault is a non-retryable error."""


async def _until_done(activity: str, ref: ImportRef, *, within: timedelta) -> None:
    await noting_failure(
        _to_the_end(activity, ref, within=within),
        lambda code: workflow.execute_activity(
            FAIL,
            ImportFailure(ref=ref, error=code),
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=STORE_RETRY,
        ),
    )


async def _to_the_end(activity: str, ref: ImportRef, *, within: timedelta) -> None:
    while True:
        progress = await workflow.execute_activity(
            activity,
            ref,
            result_type=ImportProgress,
            start_to_close_timeout=within,
            heartbeat_timeout=LOST_AFTER,
            retry_policy=STORE_RETRY,
        )
        if progress.done:
            return


@workflow.defn(name=WORKFLOW)
class PeopleImportWorkflow:
    """Takes a file in, of people or of what another domain has, on that domain's queue."""

    @workflow.run
    async def run(self, ref: ImportRef) -> None:
        """Go on until the file is at its end, the import is cancelled, or it cannot go on."""
        await _until_done(RUN, ref, within=SLICE)


@workflow.defn(name=CHECK_WORKFLOW)
class PeopleImportCheckWorkflow:
    """Reads a file and reports what it would do."""

    @workflow.run
    async def run(self, ref: ImportRef) -> None:
        """Read all of it; a worker's death means reading it again."""
        await _until_done(CHECK, ref, within=WHOLE)
