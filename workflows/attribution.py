"""Orders credited again, as durable code: a page of people after the other."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from contracts.attribution import RECOMPUTE, WORKFLOW, AttributionInput, Recredited

PAGE_TIMEOUT = timedelta(minutes=2)
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=30)
)
"""Nothing but an outage of our own store can stop it, and an outage ends."""


@workflow.defn(name=WORKFLOW)
class RecomputeAttributionWorkflow:
    """Goes once through all people of a tenant who bought in a period."""

    @workflow.run
    async def run(self, start: AttributionInput) -> None:
        """Do pages until everybody is done."""
        request = start
        while True:
            done = await workflow.execute_activity(
                RECOMPUTE,
                request,
                result_type=Recredited,
                start_to_close_timeout=PAGE_TIMEOUT,
                retry_policy=STORE_RETRY,
            )
            if done.after is None:
                return
            request = request.model_copy(update={"after": done.after})
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(request)
