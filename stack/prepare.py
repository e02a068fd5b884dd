"""`make test` before its tests: install what they would otherwise stop to install, with its progress in sight."""

import os
import sys

from stack.dev import CACHE
from stack.processes import StackError
from stack.stripe_mock import find_stripe_mock
from stack.temporal import find_program
from stack.time_skipping import find_test_server


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Return the exit code: 1 when Temporal cannot be had, or in CI its time-skipping server or stripe-mock."""
    try:
        if not os.environ.get("TEMPORAL_ADDRESS"):
            find_program(CACHE, _say)
    except StackError as error:
        _say(str(error))
        return 1
    try:
        find_test_server(CACHE, _say)
    except StackError as error:
        _say(f"Tests of long waits will be skipped. {error}")
        return 1 if os.environ.get("CI") else 0
    try:
        find_stripe_mock(CACHE, _say)
    except StackError as error:
        _say(f"Tests of Stripe will be skipped. {error}")
        return 1 if os.environ.get("CI") else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
