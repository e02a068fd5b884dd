"""Spans of workflows and activities, by Temporal's own interceptor: their contexts travel in headers of its calls.

A workflow's spans are made outside it and only where it does not replay, so its history replays with and without them.
What is not traced gets no header, so it costs no byte in a history.

What Temporal's schedules start comes of no request. There each activity begins a trace: the workflow cannot, as it
would begin another with every replay.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from temporalio import activity, client, worker
from temporalio.contrib.opentelemetry import TracingInterceptor

from core import tracing

_BY_THE_CLOCK: Final = re.compile(r"-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
"""What a schedule puts behind the id of each workflow that it starts."""


def interceptors() -> Sequence[client.Interceptor]:
    """Return what a client, and the workers made with it, are given: nothing where this process does not trace."""
    return [TracingInterceptor(tracing.Continuing()), ClockInterceptor()] if tracing.on() else []


class ClockInterceptor(client.Interceptor, worker.Interceptor):
    """Has the activities of what a schedule started begin traces; stands behind `TracingInterceptor`."""

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:  # noqa: A002 - Temporal's word
        """See `worker.Interceptor`."""
        return _ClockActivities(super().intercept_activity(next))


class _ClockActivities(worker.ActivityInboundInterceptor):
    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:  # noqa: A002, ANN401 - Temporal's
        info = activity.info()
        workflow_id = info.workflow_id or ""
        if _BY_THE_CLOCK.search(workflow_id) is None:
            return await super().execute_activity(input)
        told = {
            "temporalActivityID": info.activity_id,
            "temporalWorkflowID": workflow_id,
            "temporalRunID": info.workflow_run_id or "",
        }
        with tracing.entered({}, f"RunActivity:{info.activity_type}", attributes=told):
            return await super().execute_activity(input)
