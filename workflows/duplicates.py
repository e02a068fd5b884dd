"""The search for duplicates, as durable code: pages until none is left. Where it is stands in its row alone."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from contracts.duplicates import ABANDON, ADVANCE, WORKFLOW, Abandoned, Advanced, DuplicateSearch

ADVANCE_TIMEOUT = timedelta(minutes=30)
LOST_AFTER = timedelta(seconds=30)
"""A worker that has done no page for so long is taken for dead; another goes on."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
)
PAGE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=20,
)
"""Some minutes of an outage; after that the search is given up, visibly, and may be started again."""


@workflow.defn(name=WORKFLOW)
class FindDuplicatesWorkflow:
    """Drives one search to its end."""

    @workflow.run
    async def run(self, search: DuplicateSearch) -> None:
        """Do pages until none is left; note it where that cannot be."""
        try:
            await self._advance(search, PAGE_RETRY)
        except (ActivityError, asyncio.CancelledError) as error:  # the latter where it is told between two activities
            cancelled = is_cancelled_exception(error)
            await workflow.execute_activity(
                ABANDON,
                Abandoned(
                    search=search,
                    status="cancelled" if cancelled else "failed",
                    error=None if cancelled else _kind(error),
                ),
                start_to_close_timeout=timedelta(minutes=1),
                retry_policy=STORE_RETRY,
            )
            if not _is_gone(error):
                await self._advance(search, STORE_RETRY)  # which clears what is left
            raise

    async def _advance(self, search: DuplicateSearch, retry: RetryPolicy) -> None:
        while True:
            advanced = await workflow.execute_activity(
                ADVANCE,
                search,
                result_type=Advanced,
                start_to_close_timeout=ADVANCE_TIMEOUT,
                heartbeat_timeout=LOST_AFTER,
                retry_policy=retry,
            )
            if advanced.done:
                return
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(search)


def _kind(error: BaseException) -> str:
    if not isinstance(error, ActivityError):
        return type(error).__name__
    return (error.cause.type if isinstance(error.cause, ApplicationError) else None) or type(error.cause).__name__


def _is_gone(error: BaseException) -> bool:
    return (
        isinstance(error, ActivityError)
        and isinstance(error.cause, ApplicationError)
        and error.cause.type == "NotFound"
    )
