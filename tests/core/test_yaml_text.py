"""YAML that means what JSON would, and nothing else."""

import pytest
import yaml
from hypothesis import given, settings

from core.yaml_text import YamlError, dump, load
from tests.journeys.strategies import definitions


def test_plain_scalars_are_what_they_look_like() -> None:
    text = "on: entered\nat: 10:30\nday: 2026-01-31\nyes: no\nn: 1.50\nwhole: 7\ngood: true\nnone: null\nempty:\n"
    assert load(text) == {
        "on": "entered",
        "at": "10:30",
        "day": "2026-01-31",
        "yes": "no",
        "n": 1.5,
        "whole": 7,
        "good": True,
        "none": None,
        "empty": None,
    }


@given(definitions())
@settings(max_examples=100)
def test_what_is_written_reads_the_same_here_and_elsewhere(definition: object) -> None:
    text = dump(definition)
    assert load(text) == definition
    assert yaml.safe_load(text) == definition


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "line 2: aliases"),
        ("a: 1\na: 2\n", "line 2: a appears twice"),
        ("1: a\n", "line 1: a name must be text"),
        ("a: [1\n", "line 2:"),
        ("a: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("a: \x00", "is not YAML"),
        ("[" * 5_000 + "]" * 5_000, "nests deeper"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(YamlError, match=reason):
        load(text)
