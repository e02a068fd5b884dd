"""What may go wrong, as typed errors.

ApiError
  ConnectionFailedError   nobody answered
  ProblemError            the API said no; `problem` is what it said (RFC 9457)
    UnauthorizedError     401
    ForbiddenError        403
    NotFoundError         404
    ConflictError         409, 412
    InvalidError          400, 413, 415, 422
    RateLimitedError      429
    ServerError           5xx
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

import httpx


class FieldProblem(TypedDict):
    """A field and what is wrong with it."""

    field: str
    reason: str


class Problem(TypedDict):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: NotRequired[str]
    errors: NotRequired[Sequence[FieldProblem]]
    request_id: NotRequired[str]


class ApiError(Exception):
    """A call came to nothing."""


class ConnectionFailedError(ApiError):
    """Nobody answered, after all attempts."""


class ProblemError(ApiError):
    """The API said no."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        """Keep what it said."""
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title') or 'no reason given'}")
        self.status = status
        self.problem = cast("Problem", problem)

    @property
    def code(self) -> str:
        """The last part of the problem's type, as in `not-found`."""
        return self.problem.get("type", "").rpartition("/")[2].rpartition(":")[2]

    @property
    def errors(self) -> Sequence[FieldProblem]:
        """The fields at fault."""
        return self.problem.get("errors", [])


class UnauthorizedError(ProblemError):
    """No valid key."""


class ForbiddenError(ProblemError):
    """The key lacks the scope."""


class NotFoundError(ProblemError):
    """There is no such thing."""


class ConflictError(ProblemError):
    """It clashes with what is stored."""


class InvalidError(ProblemError):
    """The request is not acceptable; `errors` names each field and the reason."""


class RateLimitedError(ProblemError):
    """Too many requests, after all attempts."""


class ServerError(ProblemError):
    """The API failed, after all attempts."""


_OF_STATUS = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    429: RateLimitedError,
}


def error_of(response: httpx.Response) -> ProblemError:
    """Return the error that an answer stands for; its body must have been read."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {"title": response.reason_phrase}
    kind = _OF_STATUS.get(response.status_code)
    if kind is None:
        kind = ServerError if response.status_code >= 500 else InvalidError
    return kind(response.status_code, cast("dict[str, Any]", problem))
