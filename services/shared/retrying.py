"""When what was posted to somebody's address is posted again, and when it is given up."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

PAUSES: Final = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""After each failed attempt but the last: the schedule that Standard Webhooks recommends, some three days in all."""
GONE: Final = 410


class Verdict(NamedTuple):
    """What an attempt came to."""

    status: Literal["delivered", "failed", "pending"]
    pause: timedelta
    """Until the next attempt of one that is pending."""


def verdict(answer: Mapping[str, Any], attempts: int) -> Verdict:
    """Judge an attempt.

    Args:
        answer: `{"status": ...}` or `{"error": ...}`, and `retry_after` in seconds where the receiver asked for it.
        attempts: how many there were, this one included.
    """
    code = answer.get("status")
    if isinstance(code, int) and code // 100 == 2:  # noqa: PLR2004 - the class of success (RFC 9110)
        return Verdict("delivered", timedelta())
    if code == GONE or attempts > len(PAUSES):
        return Verdict("failed", timedelta())
    asked = min(timedelta(seconds=answer.get("retry_after") or 0), PAUSES[-1])
    return Verdict("pending", max(PAUSES[attempts - 1], asked))
