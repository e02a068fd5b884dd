"""What may come in at all: bodies up to a size, and addresses without NUL."""

import asyncio
import re
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import FieldProblem, InvalidError, TooLargeError

DRAINED = 32 * 1024 * 1024
"""Bytes of a refused body that are read and dropped: a caller cut off while it writes may never see the answer."""
DRAIN_SECONDS = 10.0


class BodyLimitMiddleware:
    """Refuses a body over `limit` bytes with 413: by its declared length, else once it has grown over it.

    Paths that match `uploads` have `upload_limit` instead, for a POST without `Idempotency-Key`: with one, the body is
    held in memory.

    What is refused is kept nowhere; up to `DRAINED` bytes of it are read, after that the connection is cut.
    """

    def __init__(self, app: ASGIApp, limit: int, uploads: str = "", upload_limit: int = 0) -> None:
        self._app = app
        self._limit = limit
        self._uploads = re.compile(uploads)
        self._upload_limit = upload_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _refuse_nul(scope)
        headers = Headers(scope=scope)
        limit = self._limit
        if (
            scope["method"] == "POST"
            and "idempotency-key" not in headers
            and self._uploads.fullmatch(scope["path"]) is not None
        ):
            limit = self._upload_limit
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            if "expect" not in headers:  # a caller that asks first sends nothing when it is refused
                await _drain(receive)
            raise _too_large(limit)
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > limit:
                    if message.get("more_body", False):
                        await _drain(receive)
                    raise _too_large(limit)
            return message

        await self._app(scope, limited, send)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"A body may have at most {limit} bytes.", errors=[FieldProblem("body", f"is larger than {limit} bytes")]
    )


async def _drain(receive: Receive) -> None:
    dropped = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped < DRAINED:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _refuse_nul(scope: Scope) -> None:
    if "\0" in scope["path"]:
        raise InvalidError.of("path", "holds a NUL character")
    query: bytes = scope["query_string"]
    if b"%00" in query or b"\0" in query:
        pairs: list[tuple[Any, str]] = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        names = [name for name, value in pairs if "\0" in value]
        raise InvalidError.of(names[0].replace("\0", "") if names else "query", "holds a NUL character")
