"""Finding the coordinates of one address at a server elsewhere, however long that takes to answer."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from contracts.geocoding import LOCATE, WORKFLOW, GeocodeRequest, GeocodeResult

ATTEMPT_TIMEOUT = timedelta(minutes=10)
"""A process asks one question a second: a worker may have to wait for its turn."""
GIVE_UP_AFTER = timedelta(days=1)
RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=15)
)


@workflow.defn(name=WORKFLOW)
class GeocodeWorkflow:
    """Asks until there is an answer, for a day."""

    @workflow.run
    async def run(self, request: GeocodeRequest) -> GeocodeResult:
        """Return what became of it."""
        return await workflow.execute_activity(
            LOCATE,
            request,
            result_type=GeocodeResult,
            start_to_close_timeout=ATTEMPT_TIMEOUT,
            schedule_to_close_timeout=GIVE_UP_AFTER,
            retry_policy=RETRY,
        )
