"""A typed client of the Throughline API.

from throughline_client import Throughline

with Throughline("https://api.example.com", "tl_live_...") as throughline:
    person = throughline.people.create({"email": "ann@acme.example"})
    throughline.events.create({"type": "quiz.taken", "person": {"id": person["id"]}})
"""

from ._client import AsyncThroughline, Throughline
from ._errors import (
    ApiError,
    ConflictError,
    ConnectionFailedError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    Problem,
    ProblemError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
)
from ._stream import StreamEvent
from .webhooks import SignatureError, WebhookEvent, verify

__all__ = [
    "ApiError",
    "AsyncThroughline",
    "ConflictError",
    "ConnectionFailedError",
    "ForbiddenError",
    "InvalidError",
    "NotFoundError",
    "Problem",
    "ProblemError",
    "RateLimitedError",
    "ServerError",
    "SignatureError",
    "StreamEvent",
    "Throughline",
    "UnauthorizedError",
    "WebhookEvent",
    "verify",
]
