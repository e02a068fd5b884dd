"""Traces by OpenTelemetry: what a request set off, from step to step, up to the mail.

A trace begins with a request, a mail that comes in, or an activity of what a schedule of Temporal's started, where the
sampler has it so. What follows makes spans only where it continues something
that is traced: all else costs one look, and without a collector (`core.exporting`) not even that.

Where work waits in Postgres, its row keeps the span that wrote it, as the `traceparent` of W3C: the column `trace` is
filled by its default, from the setting `app.trace` of the transaction, which `core.database` sets.

No personal data enters a span: names, ids of tenants, journeys and the like, counts and codes, never a person's id, an
address, a text or an error's words.
"""

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util import types

TENANT: Final = "throughline.tenant.id"
JOURNEY: Final = "throughline.journey.id"
COHORT: Final = "throughline.cohort.id"
NODE: Final = "throughline.journey.node"
CONSUMER: Final = "throughline.consumer"
ENDPOINT: Final = "throughline.webhook.id"
CHANNEL: Final = "throughline.channel"
ANSWER: Final = "throughline.mail.answer"
COUNT: Final = "messaging.batch.message_count"
"""Names of attributes; those of the semantic conventions are written where they are used."""

Attributes = Mapping[str, str | int | bool]

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
_NOTHING: Final = nullcontext(INVALID_SPAN)
_W3C: Final = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _State:
    tracer: Tracer | None = None
    refuses: Callable[[Mapping[str, str]], bool] | None = None


_state = _State()


def use(tracer: Tracer | None, *, refuses: Callable[[Mapping[str, str]], bool] | None = None) -> None:
    """Make spans by this tracer from now on, none without one.

    `refuses` answers `refused`, where that can be told without the tracer's sampler (`core.sampling`).
    """
    _state.tracer = tracer
    _state.refuses = refuses


def on() -> bool:
    """Whether this process makes spans at all."""
    return _state.tracer is not None


def goes_on(span: Span) -> bool:
    """Whether what this span is of is traced and not over: one of another process may always be continued."""
    context = span.get_span_context()
    return context.trace_flags.sampled and (span.is_recording() or context.is_remote)


def current() -> str | None:
    """Return the `traceparent` of what is done at this moment, None where that is not traced."""
    if _state.tracer is None or not contexts.get_current():  # empty, as mostly, it has no span: one look instead of ten
        return None
    span = trace.get_current_span()
    if not goes_on(span):
        return None
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def identifiers() -> tuple[str, str] | None:
    """Return the ids of the trace and the span of this moment, as logs have them; None where it is not traced."""
    if _state.tracer is None or not contexts.get_current():
        return None
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:
        return None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def refused(carrier: Mapping[str, str]) -> bool:
    """Whether it is sure already that `entered` with this carrier, which is to follow at once if not, makes no span.

    It costs a tenth of what the tracer spends on a span that comes to nothing.
    """
    return _state.refuses is not None and not contexts.get_current() and _state.refuses(carrier)


def entered(carrier: Mapping[str, str], name: str, *, attributes: Attributes) -> AbstractContextManager[Span]:
    """Have a block be where a trace begins, or goes on that `carrier` names by `traceparent` and `tracestate`.

    What the sampler refuses costs no more than asking it, and less where `refused` was asked before.
    """
    if _state.tracer is None:
        return _NOTHING
    context = _W3C.extract(carrier) if carrier else None
    made = _state.tracer.start_span(name, context, kind=SpanKind.SERVER, attributes=attributes)
    return _during(made) if made.is_recording() else _NOTHING


def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Have a block be a span of what is done at this moment, where that is traced."""
    if _state.tracer is None or not goes_on(trace.get_current_span()):
        return _NOTHING
    return _within(name, None, (), kind, attributes or {})


def continued(traces: Iterable[str | None], name: str, *, attributes: Attributes) -> AbstractContextManager[Span]:
    """Have a block be a span that goes on with what rows kept as their `trace`; nothing where none kept one.

    It is part of the first one's trace, and has links to the others: so nothing that is traced ends here.
    """
    if _state.tracer is None:
        return _NOTHING
    spans = [context for text in dict.fromkeys(traces) if text is not None and (context := _parsed(text)) is not None]
    if not spans:
        return _NOTHING
    return _within(name, _remote(spans[0]), [Link(context) for context in spans[1:]], SpanKind.CONSUMER, attributes)


@contextmanager
def attached(kept: str | None) -> Generator[None]:
    """Have a block go on with what a row kept as its `trace`, without a span of its own; without one, with nothing."""
    if _state.tracer is None:
        yield
        return
    context = None if kept is None else _parsed(kept)
    token = contexts.attach(Context() if context is None else _remote(context))
    try:
        yield
    finally:
        contexts.detach(token)


def annotate(attributes: Attributes) -> None:
    """Say more of the span of this moment."""
    if _state.tracer is not None:
        trace.get_current_span().set_attributes(attributes)


def start(name: str, context: Context | None, *, attributes: Attributes, start_time: int | None = None) -> Span | None:
    """Begin a span of what is done at this moment, or was in `context`; the caller ends it. None where untraced.

    `start_time` is in nanoseconds since 1970.
    """
    if _state.tracer is None:
        return None
    parent = trace.get_current_span(context)
    if not (goes_on(parent) if context is None else parent.get_span_context().trace_flags.sampled):
        return None
    return _state.tracer.start_span(name, context, kind=SpanKind.CLIENT, attributes=attributes, start_time=start_time)


def failed(span: Span, error: BaseException, *, code: str | None = None) -> None:
    """Mark a span as one that failed: by the error's class or `code`, as its words may quote what nobody should see."""
    span.set_attribute("error.type", code or type(error).__qualname__)
    span.set_status(StatusCode.ERROR)


@contextmanager
def _during(made: Span) -> Generator[Span]:
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except Exception as error:
            failed(made, error)
            raise


@contextmanager
def _within(
    name: str, context: Context | None, links: Iterable[Link], kind: SpanKind, attributes: Attributes
) -> Generator[Span]:
    if _state.tracer is None:  # switched off meanwhile
        yield INVALID_SPAN
        return
    span = _state.tracer.start_span(name, context, kind=kind, attributes=attributes, links=list(links))
    with _during(span):
        yield span


class Continuing(Tracer):
    """For libraries that make spans of their own: makes them where something traced goes on, and nowhere else."""

    def start_span(self, name: str, context: Context | None = None, *args: Any, **options: Any) -> Span:  # noqa: ANN401 - the standard's, passed on
        """See `Tracer`."""
        tracer = _state.tracer
        if tracer is None or not goes_on(trace.get_current_span(context)):
            return INVALID_SPAN
        return tracer.start_span(name, context, *args, **options)

    @contextmanager
    # What the standard's own returns is a decorator, too.
    def start_as_current_span(  # noqa: PLR0913, PLR0917 - the standard's  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002 - the standard's
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002 - the standard's
        end_on_exit: bool = True,  # noqa: FBT001, FBT002 - the standard's
    ) -> Generator[Span]:
        """See `Tracer`; what is not traced is hidden, so that nothing of it is passed on."""
        _ = record_exception  # its words may be anybody's
        tracer = _state.tracer
        if tracer is None or not goes_on(trace.get_current_span(context)):
            with trace.use_span(INVALID_SPAN):
                yield INVALID_SPAN
            return
        with tracer.start_as_current_span(
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception=False,
            set_status_on_exception=set_status_on_exception,
            end_on_exit=end_on_exit,
        ) as made:
            yield made


def _parsed(text: str) -> SpanContext | None:
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    return SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _remote(context: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(context), Context())
