"""What an error of the store or of ours is called in a history, and whether trying again is of use."""

from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError

from core.errors import PlatformError, UnavailableError

_PERMANENT: Final = ("22", "23", "42")
"""SQLSTATE classes that a repeat cannot cure: wrong data, a broken rule, a wrong statement."""
_GONE: Final = "23503"
"""Somebody was merged or erased in the middle of a page: the next attempt does not see them any more."""


def verdict(error: PlatformError | DBAPIError | asyncpg.PostgresError) -> tuple[str, bool]:
    """Return what to call an error, with nothing of a person in it, and whether trying again is of no use."""
    if isinstance(error, PlatformError):
        return error.code, not isinstance(error, UnavailableError)
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", None) or "")
    return f"store {state or 'error'}", state.startswith(_PERMANENT) and state != _GONE
