"""The reference of `waiter`: a workflow that runs one activity for each signal."""

from datetime import timedelta

from temporalio import workflow


@workflow.defn
class BareWaiter:
    """Waits for signals until it is terminated."""

    def __init__(self) -> None:
        """Nothing told yet."""
        self._told = 0

    @workflow.run
    async def run(self) -> None:
        """Run the activity for each signal."""
        while True:
            await workflow.wait_condition(lambda: self._told > 0)
            self._told -= 1
            await workflow.execute_activity("noted", start_to_close_timeout=timedelta(seconds=10))

    @workflow.signal
    def tell(self) -> None:
        """Take note of a signal."""
        self._told += 1
