"""The recomputation of everybody's score, as durable code: a page after the other."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from contracts.scores import RECOMPUTE, WORKFLOW, Recomputed, ScoresInput

PAGE_TIMEOUT = timedelta(minutes=1)
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
)
"""Nothing but an outage of our own store can stop it, and an outage ends."""


@workflow.defn(name=WORKFLOW)
class RecomputeScoresWorkflow:
    """Goes through all people of a tenant once."""

    @workflow.run
    async def run(self, start: ScoresInput) -> None:
        """Do pages until everybody is done."""
        request = start
        while True:
            done = await workflow.execute_activity(
                RECOMPUTE,
                request,
                result_type=Recomputed,
                start_to_close_timeout=PAGE_TIMEOUT,
                retry_policy=STORE_RETRY,
            )
            if done.after is None:
                return
            request = request.model_copy(update={"after": done.after})
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request)
