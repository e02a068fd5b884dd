"""One request's trace, over real processes and a real collector: to the mail's SMTP, and to a webhook's receiver."""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core import tracing
from stack import demo_access
from stack.dev import CACHE, ROOT
from stack.processes import ChildProcess, free_port
from stack.temporal import DevTemporal
from tests.eventually import eventually
from tests.providers.collector import Collector, Told, collecting
from tests.providers.serving import serving as serving_http
from tests.sender.support import MailServer, serving

READY_SECONDS: Final = 90
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER: Final = "00f067aa0ba902b7"
PERSONAL: Final = ("grace", "hopper", "+4915", "private words", "example.com")
"""What spans must not tell of: parts of the name, the address, the number and the event."""
JOURNEY: Final[dict[str, Any]] = {
    "entry": {"event": "cart.left", "again": {"mode": "always"}},
    "start": "remind",
    "nodes": {
        "remind": {"type": "send", "channel": "email", "template": "reminder", "next": "tell"},
        "tell": {"type": "update_person", "set": {"attributes.reminded": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}


@dataclass
class Deployment:
    """Real processes, and what they talk to."""

    folder: Path
    mail: MailServer
    client: httpx.AsyncClient
    database_url: str
    collector: Collector = field(default_factory=Collector)
    collecting: ExitStack = field(default_factory=ExitStack)
    """Closed, nobody collects."""
    told: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """The headers of what came by webhook."""

    async def call(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def collect(self) -> None:
        """Have the collector listen."""
        self.collecting.enter_context(collecting(self.collector))

    async def has(self, trace_id: str, *names: str) -> bool:
        """Whether spans of the trace came, those of these names among them."""
        came = {span.name for span in self.collector.spans if span.trace_id == trace_id}
        return bool(came) and came.issuperset(names)

    async def mails(self, number: int) -> None:
        """Wait for so many mails."""

        async def look() -> bool:
            return len(self.mail.received) >= number

        await eventually(look)

    async def kept(self) -> tuple[list[str], set[str]]:
        """What rows keep of the event that enters, and the beginnings of what cohorts and pages do."""
        connection = await asyncpg.connect(self.database_url)
        try:
            of_events = await connection.fetch("SELECT trace FROM event WHERE type = 'cart.left' AND trace IS NOT NULL")
            others = await connection.fetch(
                "SELECT trace FROM cohort UNION ALL SELECT trace FROM message_page ORDER BY trace"
            )
        finally:
            await connection.close()
        assert len(others) == 4  # of both events: those of the one keep nothing
        return [row["trace"] for row in of_events], {row["trace"][:35] for row in others if row["trace"] is not None}

    def log(self, process: str) -> list[dict[str, Any]]:
        lines = (self.folder / f"{process}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture
async def deployment(empty_database_url: str, tmp_path: Path) -> AsyncGenerator[Deployment]:
    """An API and a worker, with its relay and sender, on queues of their own: workers of other tests run beside it."""
    tmp_path.chmod(0o755)
    access = await demo_access.prepare(empty_database_url, None)
    told: list[dict[str, str]] = []

    async def receive(request: Request) -> Response:
        told.append(dict(request.headers))
        return Response(status_code=204)

    hook = Starlette(routes=[Route("/", receive, methods=["POST"])])
    temporal = DevTemporal(tmp_path, cache=CACHE, port=free_port(), ui=False)
    base_url = f"http://127.0.0.1:{free_port()}"
    key = {"Authorization": f"Bearer {access.api_key}"}
    async with (
        serving(MailServer()) as mail,
        serving_http(hook) as hook_url,
        httpx.AsyncClient(base_url=base_url, headers=key, timeout=30) as client,
    ):
        found = Deployment(tmp_path, mail, client, empty_database_url, told=told)
        running = ExitStack()
        try:
            running.push(found.collecting)
            found.collect()
            address = await asyncio.to_thread(temporal.start)
            running.callback(temporal.crash)
            environment = {
                **os.environ,
                "DATABASE_URL": empty_database_url,
                "TEMPORAL_ADDRESS": address,
                "SECRET_KEY": "only for traces, thirty-two letters and more",
                "PUBLIC_URL": base_url,
                "SMTP_URL": mail.url,
                "DATA_DIR": str(tmp_path / "data"),
                "ALLOW_PRIVATE_HOSTS": "true",
                "OTEL_EXPORTER_OTLP_ENDPOINT": found.collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            }
            port = base_url.rpartition(":")[2]
            for name, command in {"api": ["-m", "cli", "api", "--port", port], "worker": ["worker.py"]}.items():
                log = tmp_path / f"{name}.log"
                child = ChildProcess(name, [sys.executable, *command], log_path=log, env=environment, cwd=ROOT).start()
                running.callback(child.stop)
            await eventually(lambda: _ready(found), seconds=READY_SECONDS)
            await found.call("/v1/webhooks", {"url": hook_url, "event_types": ["cart.left"]})
            yield found
        finally:
            await asyncio.to_thread(running.close)


async def _ready(deployment: Deployment) -> bool:
    try:
        answer = await deployment.client.get("/readyz")
    except httpx.HTTPError:
        return False
    return answer.is_success and any(line["event"] == "worker.ready" for line in deployment.log("worker"))


async def _journey(deployment: Deployment) -> str:
    """Make somebody, and a journey that they enter by an event; return their id."""
    person = await deployment.call(
        "/v1/people",
        {"email": "grace.hopper@example.com", "phone": "+4915112345678", "first_name": "Grace", "last_name": "Hopper"},
    )
    template = {"key": "reminder", "channel": "email", "subject": "Hello {{ person.first_name }}"}
    await deployment.call("/v1/templates", {**template, "body": "<p>Your cart</p>", "purpose": "transactional"})
    journey = await deployment.call("/v1/journeys", {"key": "left", "name": "Left", "definition": JOURNEY})
    await deployment.call(f"/v1/journeys/{journey['id']}/publish", {})
    return person["id"]


def _event(person_id: str) -> dict[str, Any]:
    return {"type": "cart.left", "person": {"id": person_id}, "properties": {"note": "private words"}}


@dataclass(frozen=True)
class Trace:
    """The spans of a trace, once all are there."""

    spans: list[Told]

    @property
    def root(self) -> Told:
        """The one that goes on with the caller's."""
        (root,) = (span for span in self.spans if span.parent_id == CALLER)
        return root

    def path(self, name: str, **attributes: object) -> list[str]:
        """The names from the beginning to the span."""
        by_id = {span.span_id: span for span in self.spans}
        span = next(each for each in self.spans if each.name == name and attributes.items() <= each.attributes.items())
        names = [span.name]
        while span.parent_id != CALLER:
            span = by_id[span.parent_id]
            names.append(span.name)
        return names[::-1]


async def _whole(deployment: Deployment, trace_id: str) -> Trace | None:
    spans = [span for span in deployment.collector.spans if span.trace_id == trace_id]
    known = {CALLER, *(span.span_id for span in spans)}
    ends = {"SMTP", "CompleteWorkflow:journey", "deliver webhook"}
    whole = ends <= {span.name for span in spans} and {span.parent_id for span in spans} <= known
    return Trace(spans) if whole else None


@pytest.mark.timeout(180)  # Temporal and two processes start
async def test_a_request_is_one_trace_to_the_mail_and_a_collector_that_is_down_hurts_nothing(
    deployment: Deployment,
) -> None:
    person_id = await _journey(deployment)
    await deployment.call("/v1/events", _event(person_id), traceparent=f"00-{TRACE}-{CALLER}-01")
    trace = await eventually(lambda: _whole(deployment, TRACE))
    _print(trace.spans)
    _is_linked(trace)
    assert len(deployment.mail.received) == 1
    post = next(span for span in trace.spans if span.name == "POST")
    assert [told["traceparent"] for told in deployment.told] == [f"00-{TRACE}-{post.span_id}-01"]
    line = next(line for line in deployment.log("api") if line.get("trace_id") == TRACE)
    assert (line["event"], line["span_id"]) == ("request", trace.root.span_id)
    _says_nothing_personal(deployment.collector.spans, person_id)

    # a caller who does not trace: nothing is made of it, and nothing kept
    quiet = TRACE[::-1]
    await deployment.call("/v1/events", _event(person_id), traceparent=f"00-{quiet}-{CALLER}-00")
    await deployment.mails(2)
    assert await deployment.kept() == ([f"00-{TRACE}-{trace.root.span_id}-01"], {f"00-{TRACE}"})

    # a collector that is down hurts nobody, and what comes after it is told again
    deployment.collecting.close()
    began = time.monotonic()
    await deployment.call("/v1/events", _event(person_id))
    assert time.monotonic() - began < 5
    await deployment.mails(3)
    deployment.collect()
    later = "1" + TRACE[1:]
    await deployment.call("/v1/events", _event(person_id), traceparent=f"00-{later}-{CALLER}-01")
    await eventually(lambda: deployment.has(later, "SMTP"))
    assert len(deployment.mail.received) == 4
    assert not await deployment.has(quiet)


def _is_linked(trace: Trace) -> None:
    """Check that each step is a child of what brought it about."""
    consumer = ["POST /v1/events", "consume journeys"]
    started = [*consumer, "StartWorkflow:journey"]
    step = [*started, "StartActivity:run_journey_step", "RunActivity:run_journey_step"]
    assert trace.path("consume journeys") == consumer
    assert trace.path("RunWorkflow:journey") == [*started, "RunWorkflow:journey"]
    assert trace.path("RunActivity:run_journey_step", **{tracing.NODE: "remind"}) == step
    assert trace.path("SMTP") == [*step, "send email", "SMTP"]
    assert trace.path("INSERT event") == ["POST /v1/events", "INSERT event"]
    assert trace.path("INSERT cohort") == [*consumer, "INSERT cohort"]
    assert trace.path("POST") == ["POST /v1/events", "deliver webhook", "POST"]
    assert {span.service for span in trace.spans} == {"throughline-api", "throughline-worker"}
    assert [span.name for span in trace.spans if span.failed] == []
    assert sum(span.name == "SMTP" for span in trace.spans) == 1
    root = trace.root
    told = (root.kind, root.attributes["http.route"], root.attributes["http.response.status_code"])
    assert told == ("SERVER", "/v1/events", 202)


def _says_nothing_personal(spans: list[Told], person_id: str) -> None:
    """Check what all spans of all requests say, in names, values, statuses and events."""
    assert len({span.trace_id for span in spans}) > 3
    for span in spans:
        said = f"{span.name} {span.attributes} {span.words}".lower()
        assert [words for words in (*PERSONAL, person_id) if words in said] == [], said


def _print(spans: list[Told]) -> None:
    """Show the trace, as docs/tracing.md does; pytest shows it where the test fails."""
    children: dict[str, list[Told]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)

    def show(parent: str, depth: int) -> None:
        for span in children[parent]:
            sys.stdout.write(f"{'  ' * depth}{span.name} [{span.kind}] {span.attributes}\n")
            show(span.span_id, depth + 1)

    show(CALLER, 0)
