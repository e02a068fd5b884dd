"""A cohort of people, or of deals, on a journey of marketers."""

from temporalio import workflow

from workflows.walking import CohortDriver

with workflow.unsafe.imports_passed_through():
    from contracts.journeys import WORKFLOW, CohortInput


@workflow.defn(name=WORKFLOW)
class JourneyWorkflow(CohortDriver):
    """Walks one cohort until nobody is left in the journey."""

    @workflow.init
    def __init__(self, start: CohortInput) -> None:
        """Begin, or go on with the state that continue-as-new passed."""
        super().__init__(start)

    @workflow.run
    async def run(self, start: CohortInput) -> None:
        """Drive the planner with what happens until it is done."""
        _ = start  # taken up when the workflow was made
        await self.walk()
