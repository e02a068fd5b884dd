"""The reference of `checkout`: a workflow with as many activities, which do nothing."""

from datetime import timedelta

from temporalio import activity, workflow

ACTIVITIES = 4
NOTHING = "nothing"


@workflow.defn
class BareCheckoutWorkflow:
    """Activities one after the other."""

    @workflow.run
    async def run(self) -> None:
        """Have them done."""
        for _ in range(ACTIVITIES):
            await workflow.execute_activity(NOTHING, start_to_close_timeout=timedelta(seconds=10))


@activity.defn(name=NOTHING)
async def nothing() -> None:
    """Do nothing."""
