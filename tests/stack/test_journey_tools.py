"""`throughline journeys` on files; what it asks a tenant is the API's, and tested there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.yaml_text import dump
from stack import journey_tools
from tests.api.world import JOURNEY


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(journey_tools.app, [str(word) for word in words])
    return done.exit_code, done.output


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A journey as YAML, and another version as JSON."""
    longer = JOURNEY["nodes"] | {"nap": JOURNEY["nodes"]["nap"] | {"for": "P60D"}, "late": JOURNEY["nodes"]["done"]}
    old, new = tmp_path / "old.yaml", tmp_path / "new.json"
    old.write_text(dump(JOURNEY))
    new.write_text(json.dumps(JOURNEY | {"nodes": longer}))
    return old, new


def test_files_are_checked_by_themselves(files: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = files
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    assert run("validate", old) == (0, f"{old}: good\n")
    code, told = run("validate", old, new, broken, tmp_path / "none.yaml")
    assert code == 1
    assert f"{old}: good" in told
    assert f"{new}: nodes.late: " in told
    assert f"{broken}: line 1" in told
    assert "none.yaml: cannot be read" in told


def test_two_files_are_compared_and_drawn(files: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = files
    assert run("diff", old, old) == (0, "")
    code, told = run("diff", old, new)
    assert code == 1
    assert told.splitlines() == [
        '+ node late: {"type": "exit", "reason": "finished"}',
        '~ node nap.for: "P30D" -> "P60D"',
    ]
    picture = tmp_path / "old.svg"
    assert run("render", old, "-o", picture) == (0, "")
    assert picture.read_text().startswith("<svg ")
    assert run("render", "nothing")[0] == 2
