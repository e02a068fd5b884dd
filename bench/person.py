"""The reference of `journey`, `journey-wide` and `stages`: one workflow a person, or a deal, an activity per node."""

from datetime import timedelta
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.journeys import RUN_STEP, CohortRef, Contract, StepRequest, StepResult

PATH = ("hello", "pause", "odd", "offer", "mark")


class PersonInput(Contract):
    """One passage, by nodes that have one way for all; one whose name begins with `pause` is a wait."""

    cohort: CohortRef
    version_id: UUID
    path: tuple[str, ...] = PATH


@workflow.defn
class PersonWorkflow:
    """The reference: one workflow for one passage, an activity per node."""

    @workflow.run
    async def run(self, person: PersonInput) -> None:
        """Go through the nodes."""
        for node in person.path:
            waits = node.startswith("pause")
            if waits:
                await workflow.sleep(timedelta(milliseconds=1))
            await workflow.execute_activity(
                RUN_STEP,
                StepRequest(
                    cohort=person.cohort,
                    version_id=person.version_id,
                    size=1,
                    kind="leave_wait" if waits else "act",
                    node=node,
                    visit=1,
                    members="*",
                ),
                result_type=StepResult,
                start_to_close_timeout=timedelta(minutes=1),
            )
