"""What an erasure leaves to do outside the store: mail files, once no sender can write another."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from contracts.erasure import CLEAR, WORKFLOW, Cleared, ErasureInput

CLEAR_TIMEOUT = timedelta(minutes=10)
"""One pass over the folder of mails, which may hold millions."""
LOST_AFTER = timedelta(seconds=30)
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), backoff_coefficient=2.0, maximum_interval=timedelta(minutes=1)
)
"""Nothing but an outage can stop it, and an outage ends: it never gives up."""
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (2, 10, 60, 300, 900))
"""Before each further look, while a sender holds messages of the person; the last repeats."""


@workflow.defn(name=WORKFLOW)
class ErasureWorkflow:
    """Clears until nothing is left."""

    @workflow.run
    async def run(self, start: ErasureInput) -> None:
        """Look, and look again later while somebody may still write."""
        looks = 0
        while True:
            cleared = await workflow.execute_activity(
                CLEAR,
                start,
                result_type=Cleared,
                start_to_close_timeout=CLEAR_TIMEOUT,
                heartbeat_timeout=LOST_AFTER,
                retry_policy=STORE_RETRY,
            )
            if not cleared.held:
                return
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(start)
            await workflow.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
            looks += 1
