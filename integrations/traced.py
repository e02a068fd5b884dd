"""Spans of requests to others' servers: to which host, with what answer; never the address, which may name people."""

from typing import Final

import httpx
from opentelemetry.trace import Span, SpanKind, StatusCode

from core import tracing

_ERRORS: Final = 400
"""Answers from here on say that something went wrong."""


class TracedTransport(httpx.AsyncBaseTransport):
    """Passes requests on; one that is traced is a span, which with `telling` the receiver is told as `traceparent`."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, telling: bool = False) -> None:
        """Pass requests on to `transport`."""
        self._transport = transport
        self._telling = telling

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.AsyncBaseTransport`."""
        if tracing.current() is None:
            return await self._transport.handle_async_request(request)
        told = {"http.request.method": request.method, "server.address": request.url.host}
        port = request.url.port
        attributes = told if port is None else {**told, "server.port": port}
        with tracing.span(request.method, kind=SpanKind.CLIENT, attributes=attributes) as span:
            here = tracing.current()
            if self._telling and here is not None:
                request.headers["traceparent"] = here
            return _noted(span, await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """See `httpx.AsyncBaseTransport`."""
        await self._transport.aclose()


def _noted(span: Span, response: httpx.Response) -> httpx.Response:
    span.set_attribute("http.response.status_code", response.status_code)
    if response.status_code >= _ERRORS:
        span.set_attribute("error.type", str(response.status_code))
        span.set_status(StatusCode.ERROR)
    return response
