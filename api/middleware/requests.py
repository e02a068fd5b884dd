"""Around every request: its id, its span, its line in the log, and an answer to whatever nothing below answered."""

import re
import time
from typing import Protocol
from uuid import UUID

import structlog
from opentelemetry.trace import Span, StatusCode
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import respond
from api.routing import EVENT_STREAM, template_of
from core import tracing
from core.ids import new_id
from core.logging import get_logger
from core.metrics import REQUESTS

_SANE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_QUIET = frozenset({"/healthz", "/readyz"})
"""Probed every few seconds; logged only when they fail."""

_CARRIER = frozenset({b"traceparent", b"tracestate"})

_log = get_logger(__name__)


class _HasTenant(Protocol):
    tenant_id: UUID


class RequestMiddleware:
    """Outermost: sets `state.request_id`, echoes it as `X-Request-ID`, logs route, status and duration.

    A socket's id is echoed nowhere, and it has no status.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (lasts := _lasts(scope)) or (carrier := _carrier_of(scope)) is None or tracing.refused(carrier):
            await self._serve(scope, receive, send, lasts=lasts)
        else:
            method: str = scope["method"]
            told = {"http.request.method": method, "url.scheme": scope["scheme"]}
            with tracing.entered(carrier, method, attributes=told) as span:
                await self._serve(scope, receive, send, span)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, span: Span | None = None, *, lasts: bool = False
    ) -> None:
        request_id = _begun(scope)
        started = time.perf_counter()
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception as error:  # noqa: BLE001 - the last place where it can become an answer
            response = respond(scope, error)
            if status == 0:
                await response(scope, receive, tagged)
        finally:
            if span is not None:
                _tell(span, scope, status)
            seconds = time.perf_counter() - started
            if not lasts:
                REQUESTS.answered(scope["method"], template_of(scope), status, seconds)
            if scope["path"] not in _QUIET or status >= 500:  # noqa: PLR2004 - server errors
                self._log(scope, status, seconds)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket for as long as it is open: no span, and no duration of a request."""
        _begun(scope)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            seconds = time.perf_counter() - started
            _log.info("socket", route=template_of(scope), seconds=round(seconds, 1), tenant=_tenant_of(scope))

    @staticmethod
    def _log(scope: Scope, status: int, seconds: float) -> None:
        _log.info(
            "request",
            method=scope["method"],
            route=template_of(scope),  # the template: a path itself may hold tokens and addresses
            status=status,
            ms=round(seconds * 1000, 1),
            tenant=_tenant_of(scope),
        )


def _begun(scope: Scope) -> str:
    """Give a request or a socket its id, for whatever is logged while it is served; return it."""
    offered = HTTPConnection(scope).headers.get("x-request-id", "")
    request_id = offered if _SANE_ID.fullmatch(offered) else str(new_id())
    scope.setdefault("state", {})["request_id"] = request_id
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def _tenant_of(scope: Scope) -> str | None:
    """Return for which tenant it was, where that became known."""
    principal: _HasTenant | None = scope["state"].get("principal")
    return str(principal.tenant_id) if principal else None


def _lasts(scope: Scope) -> bool:
    """Whether the answer goes on for as long as somebody listens: that is no span, and no duration of a request."""
    if scope["path"] != "/graphql":
        return scope["path"] == "/v1/stream"
    return EVENT_STREAM in HTTPConnection(scope).headers.get("accept", "")


def _carrier_of(scope: Scope) -> dict[str, str] | None:
    """Return what a request says of its caller's trace; None where it is of no trace, whoever calls."""
    if not tracing.on() or scope["path"] in _QUIET:
        return None
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIER}


def _tell(span: Span, scope: Scope, status: int) -> None:
    """Say of a request's span what is known at its end; the path itself may hold tokens and addresses."""
    if not span.is_recording():
        return
    route = template_of(scope)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    tenant_id = _tenant_of(scope)
    if tenant_id is not None:
        span.set_attribute(tracing.TENANT, tenant_id)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:  # noqa: PLR2004 - server errors
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
