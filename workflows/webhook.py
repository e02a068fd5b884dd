"""An endpoint's deliveries, as durable code: one workflow each, which posts, waits for retries and is woken.

What is to be posted, in which order and when, stands in Postgres; the workflow makes sure that somebody looks.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from contracts.webhooks import DELIVER, WOKEN, WORKFLOW, DeliverProgress, EndpointRef

SLICE = timedelta(minutes=5)
"""An activity returns long before."""
LOST_AFTER = timedelta(seconds=10)
"""A worker that has not been heard of for so long is taken for dead."""
STORE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=20)
)
"""An outage of our own store ends, so these never give up."""


@workflow.defn(name=WORKFLOW)
class WebhookWorkflow:
    """Keeps one endpoint told until it is deleted."""

    def __init__(self) -> None:
        """Begin with a look, as it was begun because there is something."""
        self._woken = False

    @workflow.run
    async def run(self, endpoint: EndpointRef) -> None:
        """Post what is due, then wait for the next event or retry."""
        while True:
            self._woken = False
            progress = await workflow.execute_activity(
                DELIVER,
                endpoint,
                result_type=DeliverProgress,
                start_to_close_timeout=SLICE,
                heartbeat_timeout=LOST_AFTER,
                retry_policy=STORE_RETRY,
            )
            if progress.gone:
                return
            if not progress.more:
                await self._rest(progress)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(endpoint)

    async def _rest(self, progress: DeliverProgress) -> None:
        pause = None
        if progress.next_at is not None:
            pause = max(progress.next_at - workflow.now(), timedelta())
        try:
            await workflow.wait_condition(lambda: self._woken, timeout=pause)
        except TimeoutError:
            return

    @workflow.signal(name=WOKEN)
    def woken(self) -> None:
        """Note that there is something to post."""
        self._woken = True
