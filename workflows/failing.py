"""How workflows whose work is an activity say that it cannot go on."""

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception


async def noting_failure(work: Awaitable[Any], note: Callable[[str], Awaitable[Any]]) -> bool:
    """Await the work, and return whether it was done; where it failed for good, `note` the code of its error.

    To be cancelled is no failure.
    """
    try:
        await work
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        cause = error.cause
        await note(cause.type if isinstance(cause, ApplicationError) and cause.type else "Unknown")
        return False
    return True
