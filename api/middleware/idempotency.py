"""`Idempotency-Key`: a POST sent again is answered again and done once.

The claim, the route's work (its `SessionDep` is the claim's transaction) and the kept answer commit together, before
the answer is sent. What answers 400 or more has done nothing: the transaction is rolled back and the key stays free.
So it is where a route sets `request.state.unkept`, as it has no last word yet.
A route must not use background tasks: they would run before the commit.
"""

import hashlib
import json
import re
from http import HTTPStatus
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.bodies import again, read
from api.errors import PROBLEM_JSON, PROBLEM_TYPES
from api.resources import Resources
from core.errors import InvalidError, UnauthorizedError
from services.tenancy import idempotency
from services.tenancy.idempotency import Answer

_HEADER = idempotency.HEADER.lower().encode()
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("content-type", "location")
REPLAYED = "Idempotent-Replayed"


class IdempotencyMiddleware:
    """Around POSTs under `/v1` that carry the header; all others pass at the cost of one look at their headers."""

    def __init__(self, app: ASGIApp, resources: Resources) -> None:
        self._app = app
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not scope["path"].startswith("/v1/")
            or all(name != _HEADER for name, _ in scope["headers"])
        ):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = headers[idempotency.HEADER]
        if not _KEY.fullmatch(key):
            raise InvalidError.of(idempotency.HEADER, "must be 1 to 255 visible ASCII characters")
        try:
            principal = await self._resources.authenticator.authenticate(headers.get("authorization"))
        except UnauthorizedError:
            await self._app(scope, receive, send)  # which refuses it in its own words
            return
        body = await read(receive)
        if body is None:
            return  # the caller has gone
        # Who asks is part of it: another's answer may hold what this one may not see.
        asked = [str(principal.key_id or principal.user_id), scope["path"], scope["query_string"].decode("latin-1")]
        asked.append(headers.get("content-type", ""))
        request_hash = hashlib.sha256(json.dumps(asked).encode() + body).digest()

        async with self._resources.database.tenant(principal.tenant_id) as session:
            known = await idempotency.claim(session, key, request_hash)
            if known is not None:
                scope["state"]["principal"] = principal
                await _send(send, known, [(REPLAYED.lower().encode(), b"true")])
                return
            scope["state"]["claimed_session"] = session
            # For routes that commit on their own: the request's own name, the same when it is sent again.
            scope["state"]["claim"] = UUID(bytes=hashlib.sha256(key.encode() + request_hash).digest()[:16])
            outbox = _Outbox()
            await self._app(scope, again(body, receive), outbox)
            if outbox.status < HTTPStatus.BAD_REQUEST and not scope["state"].get("unkept"):
                await idempotency.keep(session, key, request_hash, outbox.answer())
            else:
                await session.rollback()
        for message in outbox.messages:
            await send(message)


class _Outbox:
    """Holds an answer back until its transaction is committed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    def answer(self) -> Answer:
        """Return what to give again: the answer, or, where it may not be stored, word that it was given."""
        headers = Headers(raw=self.messages[0]["headers"])
        if "no-store" in headers.get("cache-control", ""):
            return _given_before()
        body = b"".join(message.get("body", b"") for message in self.messages[1:])
        return Answer(self.status, {name: headers[name] for name in _KEPT_HEADERS if name in headers}, body)


def _given_before() -> Answer:
    document = {
        "type": PROBLEM_TYPES + "conflict",
        "title": "Conflict",
        "status": HTTPStatus.CONFLICT,
        "detail": "This was done before. Its answer held a secret, which is shown once.",
        "errors": [{"field": idempotency.HEADER, "reason": "was used before"}],
        "request_id": None,
    }
    return Answer(HTTPStatus.CONFLICT, {"content-type": PROBLEM_JSON}, json.dumps(document).encode())


async def _send(send: Send, answer: Answer, extra: list[tuple[bytes, bytes]]) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers + extra})
    await send({"type": "http.response.body", "body": answer.body})
