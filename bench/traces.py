"""`traces`: what tracing costs, sampling one request of a hundred or all, against the same without.

Events by `POST /v1/events`, one by one, from three processes in turns; and a cohort's walk through the journey of
`journey`, in this process, let in by a request that is traced or not.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from bench import walking
from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from bench.ingest import CONNECTIONS, PEOPLE, bodies_of, loading
from bench.reading import Store, database, served
from core import exporting, tracing
from core.temporal import connect

SECONDS: Final = 4.0 if FULL else 2.0
ROUNDS: Final = 7
"""Each way has its turn in each; the first warms up."""
WALKING: Final = 20_000 if FULL else 5_000
WALKS: Final = 4
SHARES: Final = {"off": None, "1 %": "0.01", "all": "1"}
"""Which requests are traced, as the sampler is told; None: this process traces nothing."""


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure; see the module."""
    with _collector() as endpoint:
        events = await _events(running, endpoint, report)
        people = await _people(running, endpoint, report)
    return [
        Ratio("traces-ingest", events["1 %"] / events["off"], 0.95, at_least=True),
        Ratio("traces-ingest-all", events["all"] / events["off"], 0.5, at_least=True),
        Ratio("traces-journey", people["1 %"] / people["off"], 0.95, at_least=True),
        Ratio("traces-journey-all", people["all"] / people["off"], 0.8, at_least=True),
    ]


async def _events(running: Servers, endpoint: str, report: Report) -> Mapping[str, float]:
    async with AsyncExitStack() as cleanup:
        store = await Store.filled(await database(running, "traces"), PEOPLE, report)
        loader = cleanup.enter_context(loading(store.secret))
        ports = {
            name: await cleanup.enter_async_context(served(running, store, "api.app", _environment(endpoint, share)))
            for name, share in SHARES.items()
        }
        bodies = bodies_of(store)
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for number in range(ROUNDS):
            for name, port in ports.items():
                rate = await loader.post(port, "/v1/events", bodies, connections=CONNECTIONS, seconds=SECONDS)
                if number:
                    rates[name].append(rate)
    return _told(rates, "events/s", report)


async def _people(running: Servers, endpoint: str, report: Report) -> Mapping[str, float]:
    rates: dict[str, list[float]] = {name: [] for name in SHARES}
    async with tenant(running, "traces") as bench:
        version = await walking.prepared(bench)
        people = await bench.people(WALKING)
        for number in range(WALKS):
            for name, share in SHARES.items():
                await bench.analyze()
                async with (
                    _tracing(bench, running, _environment(endpoint, share)) as traced,
                    walking.walker(traced),
                ):
                    with tracing.entered({}, "walk", attributes={}):
                        await walking.enroll(traced, version, people[:100])  # the worker is warm
                    await walking.finished(traced)
                    began = asyncio.get_running_loop().time()
                    with tracing.entered({}, "walk", attributes={}):
                        await walking.enroll(traced, version, people)
                    await walking.finished(traced)
                    if number:
                        rates[name].append(WALKING / (asyncio.get_running_loop().time() - began))
    return _told(rates, "people/s", report)


def _told(rates: Mapping[str, list[float]], what: str, report: Report) -> Mapping[str, float]:
    found = {name: median(each) for name, each in rates.items()}
    told = ", ".join(f"{name} {rate:,.0f}" for name, rate in found.items())
    report(f"{what} by what is traced: {told}; one-minute load {os.getloadavg()[0]:.1f}")
    return found


def _environment(endpoint: str, share: str | None) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "" if share is None else endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share or "0",
    }


@asynccontextmanager
async def _tracing(bench: Tenant, running: Servers, environment: Mapping[str, str]) -> AsyncGenerator[Tenant]:
    """Lend the tenant as a process with this environment has it."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        async with exporting.traces("throughline-bench"):
            yield replace(bench, client=await connect(running.settings))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _collector() -> Generator[str]:
    """Take spans on a port of this machine, and forget them; lend the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take one batch."""
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            running.join()
