"""Recorded histories replay: a change that would break a workflow running somewhere fails here.

See tests/histories/record.py, which records them, for what to do when one fails.
"""

import base64
import re
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from tests.factories.running import Hasty
from tests.histories import record
from worker import (
    COMMERCE_WORKFLOWS,
    CRM_WORKFLOWS,
    IDENTITY_WORKFLOWS,
    MARKETING_WORKFLOWS,
    WEBHOOK_WORKFLOWS,
)

HISTORIES = sorted(record.FOLDER.glob("*.json"))


def replayer(history: Path) -> Replayer:
    """Return a replayer that runs workflows as worker.py does."""
    return Replayer(
        workflows=list(
            dict.fromkeys(
                [
                    *IDENTITY_WORKFLOWS,
                    *MARKETING_WORKFLOWS,
                    *CRM_WORKFLOWS,
                    *COMMERCE_WORKFLOWS,
                    *WEBHOOK_WORKFLOWS,
                ]
            )
        ),
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        data_converter=pydantic_data_converter,
        interceptors=[Hasty()] if history.name.startswith(record.CONTINUED) else [],
    )


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.name)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    result = await replayer(path).replay_workflow(history)
    assert result.replay_failure is None


def test_every_scenario_is_recorded() -> None:
    assert {path.name.split(".")[0] for path in HISTORIES} == set(record.SCENARIOS)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.name)
def test_a_history_says_nothing_of_people_or_machines(path: Path) -> None:
    text = path.read_text()
    payloads = b"".join(base64.b64decode(data) for data in re.findall(r'"data": "([^"]+)"', text))
    for secret in ("@example.com", 'File "', "site-packages"):
        assert secret not in text
        assert secret.encode() not in payloads
