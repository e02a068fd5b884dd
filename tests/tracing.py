"""Spans made by this process, for tests that look at them."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import Link, SpanContext
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from core import database_spans, tracing
from core.exporting import WordlessExporter
from core.sampling import EarlySampler
from core.workflow_spans import interceptors


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """In the order they ended."""
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """Of all."""
        return [span.name for span in self.all]

    def one(self, name: str) -> ReadableSpan:
        """The only one of that name."""
        (span,) = (span for span in self.all if span.name == name)
        return span


@contextmanager
def traced(sampler: Sampler = DEFAULT_ON, early: EarlySampler | None = None) -> Generator[Spans]:
    """Have this process trace while the block runs; `early` refuses ahead of the sampler."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, id_generator=early, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(WordlessExporter(exporter)))
    database_spans.install()
    tracing.use(provider.get_tracer("tests"), refuses=early and early.refuses)
    try:
        yield Spans(exporter)
    finally:
        tracing.use(None)


def client_of(client: Client) -> Client:
    """A client as a process that traces has it."""
    return Client(
        client.service_client,
        namespace=client.namespace,
        data_converter=pydantic_data_converter,
        interceptors=interceptors(),
    )


def parent_of(span: ReadableSpan) -> str:
    """The `traceparent` of a span's parent."""
    assert span.parent is not None
    return _told(span.parent)


def traceparent(span: ReadableSpan) -> str:
    """The `traceparent` of a span."""
    assert span.context is not None
    return _told(span.context)


def linked(link: Link) -> str:
    """The `traceparent` of a linked span."""
    return _told(link.context)


def _told(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
