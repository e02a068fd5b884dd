"""Errors that a caller can act on. Each carries an HTTP status, so that the edge needs no table of its own.

PlatformError
├── NotFoundError        404
├── ConflictError        409
├── InvalidError         422
├── UnauthorizedError    401
├── ForbiddenError       403
├── TooLargeError        413
├── TooManyRequestsError 429
└── UnavailableError     503
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One reason why a request was refused: the field's path as the caller wrote it, and what is wrong with it."""

    field: str
    reason: str


class PlatformError(Exception):
    """A refusal with a stable `code` (the last part of the problem's type), a sentence, and the fields at fault."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldProblem] = (), extra: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the sentence, the fields and any further members of the problem document."""
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.extra = dict(extra or {})


class NotFoundError(PlatformError):
    """No such thing in this tenant."""

    status = 404
    code = "not-found"
    title = "Not found"


class ConflictError(PlatformError):
    """The request is well formed but clashes with what is stored."""

    status = 409
    code = "conflict"
    title = "Conflict"


class InvalidError(PlatformError):
    """A field's value is not acceptable."""

    status = 422
    code = "invalid"
    title = "Invalid request"

    @classmethod
    def of(cls, field: str, reason: str) -> "InvalidError":
        """Return the error for a single field."""
        return cls(f"{field}: {reason}", errors=[FieldProblem(field, reason)])


class UnauthorizedError(PlatformError):
    """No valid credential."""

    status = 401
    code = "unauthorized"
    title = "Unauthorized"


class ForbiddenError(PlatformError):
    """The credential lacks the scope."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class TooLargeError(PlatformError):
    """The body exceeds the limit."""

    status = 413
    code = "too-large"
    title = "Too large"


class TooManyRequestsError(PlatformError):
    """The caller has to wait before it asks again."""

    status = 429
    code = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: int, errors: Sequence[FieldProblem] = ()) -> None:
        """Keep also how many seconds to wait, at least."""
        super().__init__(detail, errors=errors, extra={"retry_after": retry_after})
        self.retry_after = retry_after


class UnavailableError(PlatformError):
    """Something we depend on does not answer now; the same request may succeed in a moment."""

    status = 503
    code = "unavailable"
    title = "Unavailable"
