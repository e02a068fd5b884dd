"""Workflows that are traced: replayed with every task, and their histories with and without tracing."""

import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from temporalio.client import WorkflowHistory
from temporalio.contrib.opentelemetry import TracingInterceptor

from core import tracing
from services.events.publish import NewEvent
from tests.factories.marketing import walk
from tests.factories.running import Platform
from tests.histories import record
from tests.histories.replaying import replayer
from tests.tracing import client_of, linked, parent_of, traced, traceparent
from tests.workflows.test_journey import post

ORDER: Final = {"total": "10.00", "currency": "EUR"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P30D", "matched": "mark", "timed_out": "done"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
HISTORIES: Final = {
    re.findall(r'"workflowType": \{\s*"name": "(\w+)"', path.read_text())[0]: path
    for path in sorted(record.FOLDER.glob("*.1.json"))
    if not path.name.startswith(record.CONTINUED)  # those need more interceptors than these
}
"""One of each workflow."""


async def test_people_of_two_traces_walk_as_one_cohort(running: Platform) -> None:
    marketing = running.marketing
    version = await marketing.journey(walk(entry={"event": "cart.left"}, listen=LISTEN, mark=MARK))
    people = await marketing.people(2)
    with traced() as spans:
        following = replace(running, client=client_of(running.client))
        for number, person_id in enumerate(people):
            with tracing.entered({}, f"request {number}", attributes={}):
                await post(marketing, NewEvent("cart.left", person_id))
        await following.relay_only()
        (cohort,) = await marketing.cohorts(version)
        # each task replays the workflow from its beginning, in the sandbox
        async with following.worker(cached=0):
            await following.deliver()
            await following.settled(cohort, listen={"waiting": 2})
            with tracing.entered({}, "orders", attributes={}):
                await post(marketing, *(NewEvent("order.placed", person, properties=ORDER) for person in people))
            await following.relay()
            await following.finished(cohort)
        history = await following.handle(cohort).fetch_history()
    first, second, orders = (traceparent(spans.one(name)) for name in ("request 0", "request 1", "orders"))
    entering, ordering, *_ = (span for span in spans.all if span.name == "consume journeys")
    assert parent_of(entering) == first
    assert [linked(link) for link in entering.links] == [second]
    assert parent_of(spans.one("StartWorkflow:journey")) == traceparent(entering)
    assert parent_of(ordering) == orders
    # a signal of another trace is linked, and both go on
    assert parent_of(spans.one("SignalWorkflow:tell")) == traceparent(ordering)
    told = spans.one("HandleSignal:tell")
    assert traceparent(told)[:35] == first[:35]
    assert [linked(link)[:35] for link in told.links] == [orders[:35]]
    steps = [span for span in spans.all if span.name == "RunActivity:run_journey_step"]
    assert {traceparent(span)[:35] for span in steps} == {first[:35]}
    assert [step.attributes[tracing.NODE] for step in steps if step.attributes] == ["mark"]
    assert spans.names.count("CompleteWorkflow:journey") == 1  # replays tell nothing again

    assert b"_tracer-data" in history.to_json().encode()
    for how in (True, False):
        with traced() if how else nullcontext() as again:
            tracer = (TracingInterceptor(tracing.Continuing()),) if how else ()
            result = await replayer(*tracer).replay_workflow(history)
            assert result.replay_failure is None
            assert again is None or again.names == []


async def test_histories_recorded_without_traces_replay_with_them() -> None:
    assert {"journey", "campaign", "checkout", "webhook"} <= set(HISTORIES)
    with traced():
        for path in HISTORIES.values():
            history = WorkflowHistory.from_json(path.stem, path.read_text())
            result = await replayer(TracingInterceptor(tracing.Continuing())).replay_workflow(history)
            assert result.replay_failure is None, path.name


async def test_what_is_not_traced_leaves_no_byte_in_a_history(running: Platform) -> None:
    marketing = running.marketing
    with traced(ALWAYS_OFF) as spans:
        following = replace(running, client=client_of(running.client))
        with tracing.entered({}, "request", attributes={}):
            cohort = await marketing.walking(walk(mark=MARK), await marketing.people())
        async with following.worker():
            await following.deliver()
            await following.finished(cohort)
        history = await following.handle(cohort).fetch_history()
    assert "_tracer-data" not in history.to_json()
    assert spans.names == []
