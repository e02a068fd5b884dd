"""Work that begins again where another request was faster."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError

from core.database import TenantSession
from core.errors import UnavailableError

ATTEMPTS: Final = 8
_LOST_RACE: Final = frozenset({"40P01", "23503", "23505"})
"""Deadlock, foreign key, unique key: another request was faster."""
_UNDER_WAY: Final = "attempt_under_way"

Result = TypeVar("Result")


class LostRaceError(Exception):
    """Another request was faster; what it did is visible now."""


async def in_attempts(session: TenantSession, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Return what `attempt` does in a savepoint, begun again where it lost a race.

    What it locked is free again in between, so whoever stood in a deadlock with it goes on. An attempt within another
    is part of it: begun again alone, it would wait for whom the outer one keeps waiting.

    Raises:
        UnavailableError: others were faster again and again.
    """
    if _UNDER_WAY in session.info:
        async with session.begin_nested():
            return await attempt()
    session.info[_UNDER_WAY] = True
    try:
        for _ in range(ATTEMPTS):
            try:
                async with session.begin_nested():
                    return await attempt()
            except LostRaceError:
                continue
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _LOST_RACE:
                    raise
    finally:
        del session.info[_UNDER_WAY]
    raise UnavailableError("Other requests keep changing the same people; try again in a moment.")
