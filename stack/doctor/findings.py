"""What the doctor finds: a sentence about one thing, and what to do where it is not as it should be."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look at it."""
    FAILURE = "failure"
    """Something does not work."""
    SKIPPED = "skipped"
    """Could not be looked at, as something before it fails."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """`area.thing`, for programs."""
    state: State
    says: str
    do: str = ""
    """Empty where all is well."""


def ok(check: str, says: str) -> Finding:
    """Return that all is well."""
    return Finding(check, State.OK, says)


def warning(check: str, says: str, do: str) -> Finding:
    """Return that somebody should look at it."""
    return Finding(check, State.WARNING, says, do)


def failure(check: str, says: str, do: str) -> Finding:
    """Return that it does not work."""
    return Finding(check, State.FAILURE, says, do)


def skipped(check: str, says: str) -> Finding:
    """Return that it could not be looked at."""
    return Finding(check, State.SKIPPED, says)
