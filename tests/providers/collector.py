"""A collector of traces on this machine: takes OTLP over HTTP, as any does, and keeps what it was told."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Told:
    """A span as it was exported."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    """Trace and span."""
    failed: bool
    words: str
    """All else that it says: its status, its events."""


@dataclass
class Collector:
    """What came."""

    bodies: list[bytes] = field(default_factory=list[bytes])
    port: int = 0

    @property
    def url(self) -> str:
        """What `OTEL_EXPORTER_OTLP_ENDPOINT` is to name."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Told]:
        """All spans, in the order they came in."""
        return [span for body in self.bodies for span in _read(body)]


def _read(body: bytes) -> Iterator[Told]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Told(
                    service=service,
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    attributes=_values(span.attributes),
                    links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    words=f"{span.status.message} {span.events}",
                )


def _values(attributes: Any) -> dict[str, Any]:  # noqa: ANN401 - protobuf's list
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:  # noqa: ANN401 - of any type
    return getattr(value, value.WhichOneof("value") or "string_value")


@contextmanager
def collecting(collector: Collector) -> Generator[Collector]:
    """Have the collector listen while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf"):
                collector.bodies.append(body)
                self.send_response(200)
            else:
                self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", collector.port), Handler) as server:
        collector.port = server.server_address[1]
        running = threading.Thread(target=server.serve_forever, args=(0.05,))
        running.start()
        try:
            yield collector
        finally:
            server.shutdown()
            running.join()
