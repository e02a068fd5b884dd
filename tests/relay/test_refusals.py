"""What was refused is left alone for longer each time, and forgotten once nobody asks for it any more."""

import pytest
from temporalio.service import RPCError, RPCStatusCode

from relay.refusals import LONGEST_PAUSE, Refusals, is_outage


def test_pauses_double_up_to_a_limit() -> None:
    now = 0.0
    refusals = Refusals[str](lambda: now)
    pauses = [refusals.add("a") for _ in range(12)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-2:] == [LONGEST_PAUSE, LONGEST_PAUSE]
    assert refusals.add("b") == 1.0
    assert refusals.held() == ["a", "b"]
    now = 1.0
    assert refusals.held() == ["a"]
    assert refusals.add("b") == 2.0


def test_what_was_not_refused_again_for_long_begins_anew() -> None:
    now = 0.0
    refusals = Refusals[str](lambda: now)
    for _ in range(5):
        refusals.add("a")
    now = 16.0 + LONGEST_PAUSE
    assert refusals.held() == []
    assert refusals.add("a") == 1.0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RPCError("", RPCStatusCode.UNAVAILABLE, b""), True),
        (RPCError("", RPCStatusCode.UNAUTHENTICATED, b""), True),
        (RPCError("", RPCStatusCode.INVALID_ARGUMENT, b""), False),
        (RPCError("", RPCStatusCode.INTERNAL, b""), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (TypeError(), False),
    ],
)
def test_an_outage_is_told_from_a_refusal(error: Exception, *, expected: bool) -> None:
    assert is_outage(error) is expected
