"""Runs recorded histories through the workflows there are."""

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Interceptor, Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from worker import COMMERCE_WORKFLOWS, CRM_WORKFLOWS, IDENTITY_WORKFLOWS, MARKETING_WORKFLOWS, WEBHOOK_WORKFLOWS

WORKFLOWS = tuple(
    dict.fromkeys([*IDENTITY_WORKFLOWS, *MARKETING_WORKFLOWS, *CRM_WORKFLOWS, *COMMERCE_WORKFLOWS, *WEBHOOK_WORKFLOWS])
)


def replayer(*interceptors: Interceptor) -> Replayer:
    """Return a replayer that runs workflows as worker.py does."""
    return Replayer(
        workflows=WORKFLOWS,
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        data_converter=pydantic_data_converter,
        interceptors=interceptors,
    )
