"""A cohort of deals in the automation of a stage, walked as journeys are."""

from temporalio import workflow

from workflows.walking import CohortDriver

with workflow.unsafe.imports_passed_through():
    from contracts.journeys import DEAL_STAGE, CohortInput


@workflow.defn(name=DEAL_STAGE)
class DealStageWorkflow(CohortDriver):
    """Walks one cohort until every deal has left the stage, or all is done for it."""

    @workflow.init
    def __init__(self, start: CohortInput) -> None:
        """Begin, or go on with the state that continue-as-new passed."""
        super().__init__(start)

    @workflow.run
    async def run(self, start: CohortInput) -> None:
        """Drive the planner with what happens until it is done."""
        _ = start  # taken up when the workflow was made
        await self.walk()
