"""The simulation of a journey, as durable code: one activity that changes nothing but its result, so it may repeat."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from workflows.failing import noting_failure

with workflow.unsafe.imports_passed_through():
    from contracts.simulations import FAIL, RUN, WORKFLOW, SimulationFailure, SimulationRef

SHORT = timedelta(minutes=1)
LONG = timedelta(minutes=30)
LOST_AFTER = timedelta(seconds=30)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=20),
)
"""An outage of our own store ends."""
FEW_TIMES = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=3.0,
    maximum_interval=timedelta(seconds=20),
    maximum_attempts=5,
)
"""One that is too large for the machine must not occupy it for ever."""


@workflow.defn(name=WORKFLOW)
class JourneySimulationWorkflow:
    """Simulates a journey once."""

    @workflow.run
    async def run(self, ref: SimulationRef) -> None:
        """Simulate, or note why not."""
        await noting_failure(
            workflow.execute_activity(
                RUN,
                ref,
                start_to_close_timeout=LONG,
                heartbeat_timeout=LOST_AFTER,
                retry_policy=FEW_TIMES,
            ),
            lambda code: workflow.execute_activity(
                FAIL,
                SimulationFailure(ref=ref, error=code),
                start_to_close_timeout=SHORT,
                retry_policy=STORE_RETRY,
            ),
        )
