"""What a refusal for good says of a mailbox, by its status of RFC 3463."""

import re
from typing import Final, Literal

Bounce = Literal["hard_bounce", "soft_bounce"]

STATUS: Final = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_PASSING: Final = frozenset({(2, 2), (2, 3)})
"""Of class 5, and yet of this mail alone: a full mailbox, a mail too large."""
_OF_THE_HOST: Final = frozenset({3, 7})
"""Likewise all that a host says of itself (5.3) and of its policy (5.7)."""


def bounce_of(status: re.Match[str] | None, otherwise: Bounce = "soft_bounce") -> Bounce:
    """Return what a match of `STATUS` says; `otherwise` where there is none."""
    if status is None:
        return otherwise
    if status.group(1) != "5":
        return "soft_bounce"
    subject, detail = int(status.group(2)), int(status.group(3))
    return "soft_bounce" if subject in _OF_THE_HOST or (subject, detail) in _PASSING else "hard_bounce"
