"""Recorded histories replay: a change that would break a workflow running somewhere fails here.

See tests/histories/record.py, which records them, for what to do when one fails.
"""

import base64
import re
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from tests.factories.running import Hasty
from tests.histories import record
from tests.histories.replaying import replayer

HISTORIES = sorted(record.FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.name)
async def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    result = await replayer(*([Hasty()] if path.name.startswith(record.CONTINUED) else [])).replay_workflow(history)
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
