"""JSON as text: as the standard library has it, wherever it differs."""

import json
from typing import Any

import pytest

from core.json_text import as_text, from_text

VALUES: list[Any] = [
    None,
    {"a": [1, 2.5, True, None, "é\0\n"], "b": {"c": 2**70}, "d": -1e300, "e": 1e16},
    ["\ud800"],
    float("inf"),
    json.loads("[" * 400 + "]" * 400),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_text_says_the_value(value: object) -> None:
    assert json.loads(as_text(value)) == value
    assert from_text(json.dumps(value)) == value


def test_a_pair_is_a_list() -> None:
    assert as_text({"amount": (None, "1.00")}) == '{"amount":[null,"1.00"]}'


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError):
        as_text(object())
    with pytest.raises(ValueError, match="Expecting"):
        from_text("{")
