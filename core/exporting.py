"""Sends this process's spans to a collector by OTLP over HTTP, as the standard's `OTEL_` variables say.

A thread sends them in batches. What a collector that is down or slow does not take in time is dropped: nobody waits for
it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final
from uuid import uuid4

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from core import database_spans, sampling, tracing
from core.logging import get_logger

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Where a collector listens: without either nothing is traced."""
FLUSH_SECONDS: Final = 5.0
"""How long sending the last spans may keep a process from its end."""
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN: Final = "http/protobuf"
_UNNAMED: Final = "unknown_service"
_WORDS: Final = frozenset({"exception.message", "exception.stacktrace"})

_log = get_logger(__name__)


@dataclass(slots=True)
class _State:
    provider: TracerProvider | None = None


_state = _State()


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the standard's variables ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in {"otlp", ""}:
        return False
    return any(environment.get(name, "").strip() for name in ENDPOINTS)


def start(service: str) -> bool:
    """Trace from now on, where the environment asks for it; return whether this call began it.

    Args:
        service: what the process is called, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name it.
    """
    if _state.provider is not None or not wanted(os.environ):
        return False
    asked = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SPOKEN)
    if asked != _SPOKEN:
        _log.warning("traces.protocol", asked=asked, spoken=_SPOKEN)
    resource = Resource.create({"service.version": version("throughline"), "service.instance.id": str(uuid4())})
    if str(resource.attributes.get("service.name", _UNNAMED)).startswith(_UNNAMED):
        resource = resource.merge(Resource({"service.name": service}))
    early = sampling.early(os.environ)
    provider = TracerProvider(resource=resource, id_generator=early, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(WordlessExporter(OTLPSpanExporter())))
    database_spans.install()
    tracing.use(provider.get_tracer("throughline"), refuses=early.refuses)
    _state.provider = provider
    return True


def stop() -> None:
    """Make no more spans, and send what there is, for `FLUSH_SECONDS` at most."""
    provider, _state.provider = _state.provider, None
    tracing.use(None)
    if provider is not None:
        # The exporter tries again for as long as its own time lasts; at the end nobody waits for that.
        sending = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


@asynccontextmanager
async def traces(service: str) -> AsyncGenerator[None]:
    """Trace while the block runs, as `start` and `stop` have it; within another such block nothing changes."""
    began = start(service)
    try:
        yield
    finally:
        if began:
            await asyncio.to_thread(stop)


class WordlessExporter(SpanExporter):
    """Passes spans on without the words of errors: libraries put them there, and they may quote people's data."""

    def __init__(self, exporter: SpanExporter) -> None:
        """Pass spans on to `exporter`."""
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        return self._exporter.export([_wordless(span) for span in spans])

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._exporter.force_flush(timeout_millis)


def _wordless(span: ReadableSpan) -> ReadableSpan:
    if not span.events and not span.status.description:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[
            Event(
                event.name,
                {name: value for name, value in (event.attributes or {}).items() if name not in _WORDS},
                event.timestamp,
            )
            for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
