"""Spans of workflows and activities, by Temporal's own interceptor: their contexts travel in headers of its calls.

A workflow's spans are made outside it and only where it does not replay, so its history replays with and without them.
What is not traced gets no header, so it costs no byte in a history.
"""

from collections.abc import Sequence

from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import TracingInterceptor

from core import tracing


def interceptors() -> Sequence[Interceptor]:
    """Return what a client, and the workers made with it, are given: nothing where this process does not trace."""
    return [TracingInterceptor(tracing.Continuing())] if tracing.on() else []
