"""The reference of `journey`: one workflow for one person, an activity per node."""

from datetime import timedelta
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.journeys import RUN_STEP, CohortRef, Contract, StepRequest, StepResult

PATH = ("hello", "pause", "odd", "offer", "mark")


class PersonInput(Contract):
    """One person's passage."""

    cohort: CohortRef
    version_id: UUID


@workflow.defn
class PersonWorkflow:
    """The reference: one workflow for one person, an activity per node."""

    @workflow.run
    async def run(self, person: PersonInput) -> None:
        """Go through the five nodes."""
        for node in PATH:
            if node == "pause":
                await workflow.sleep(timedelta(milliseconds=1))
            await workflow.execute_activity(
                RUN_STEP,
                StepRequest(
                    cohort=person.cohort,
                    version_id=person.version_id,
                    size=1,
                    kind="leave_wait" if node == "pause" else "act",
                    node=node,
                    visit=1,
                    members="*",
                ),
                result_type=StepResult,
                start_to_close_timeout=timedelta(minutes=1),
            )
