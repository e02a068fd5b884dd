"""`enroll`: from `POST .../enrollments` of one person to SMTP's acceptance, against a bare workflow sending mail."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from aiosmtpd.smtp import SMTP, Envelope, Session

from bench.bare import QUEUE, BareWorkflow
from bench.harness import CACHE, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from services.tenancy import api_keys
from stack import temporal
from stack.processes import ChildProcess, free_port

SAMPLE = 60
WARM_UP = 15

DEFINITION: dict[str, Any] = {
    "entry": {"api": True, "again": {"mode": "always"}},
    "start": "hello",
    "nodes": {
        "hello": {"type": "send", "channel": "email", "template": "hello", "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
}


class Sink:
    """An SMTP server that remembers when it accepted the mail to an address."""

    def __init__(self) -> None:
        """Nothing accepted yet."""
        self._accepted: dict[str, asyncio.Future[float]] = {}

    def expect(self, address: str) -> asyncio.Future[float]:
        """Return the future acceptance of a mail, on the clock of `time.perf_counter`."""
        return self._accepted.setdefault(address, asyncio.get_running_loop().create_future())

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Accept."""
        for address in envelope.rcpt_tos:
            waiting = self._accepted.pop(address, None)
            if waiting is not None:
                waiting.set_result(time.perf_counter())
        return "250 accepted"


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure, the two in turns; see the module."""
    sink = Sink()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(sink), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    async with tenant(running, "enroll") as bench, _ours(running, bench, port) as api, _bare(running, port):
        await bench.template("hello")
        await bench.journey("hello", DEFINITION)
        people = await bench.people(SAMPLE + WARM_UP)
        ours: list[float] = []
        bare: list[float] = []
        for person_id in people:
            accepted = sink.expect(f"{person_id}@bench.example")
            began = time.perf_counter()
            answer = await api.post("/journeys/hello/enrollments", json={"person_id": str(person_id)})
            answer.raise_for_status()
            ours.append(await asyncio.wait_for(accepted, 30) - began)
            address = f"{uuid4()}@bare.example"
            accepted = sink.expect(address)
            began = time.perf_counter()
            await bench.client.start_workflow(BareWorkflow.run, address, id=address, task_queue=QUEUE)
            bare.append(await asyncio.wait_for(accepted, 30) - began)
    server.close()
    mine, reference = median(ours[WARM_UP:]), median(bare[WARM_UP:])
    report(f"enrollment to acceptance {mine * 1000:.1f} ms, bare workflow {reference * 1000:.1f} ms")
    return [Ratio("enroll", mine / reference, 2, at_least=False)]


@asynccontextmanager
async def _ours(running: Servers, bench: Tenant, smtp_port: int) -> AsyncGenerator[httpx.AsyncClient]:
    """Run an API and a worker process; yield a client with a key."""
    http_port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": running.settings.database_url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
        "DATA_DIR": str(running.folder / "data"),
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--port", str(http_port)]
    api = ChildProcess("API", command, running.folder / "api.log", env=environment, cwd=CACHE.parent)
    worker = ChildProcess(
        "worker", [sys.executable, "worker.py"], running.folder / "worker.log", env=environment, cwd=CACHE.parent
    )
    async with bench.database.tenant(bench.id) as session:
        _, secret = await api_keys.create(session, "bench", [api_keys.ALL], by=CLI)
    try:
        api.start()
        worker.start()
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{http_port}/v1", headers={"Authorization": f"Bearer {secret}"}, timeout=30
        )
        await asyncio.to_thread(api.wait_until, lambda: _answers(http_port))
        address = running.settings.temporal_address
        await asyncio.to_thread(worker.wait_until, lambda: asyncio.run(temporal.has_poller(address, worker.pid)))
        async with client:
            yield client
    finally:
        worker.stop()
        api.stop()


@asynccontextmanager
async def _bare(running: Servers, smtp_port: int) -> AsyncGenerator[None]:
    command = [sys.executable, "-m", "bench.bare", running.settings.temporal_address, str(smtp_port)]
    child = ChildProcess("bare worker", command, running.folder / "bare.log", cwd=CACHE.parent)
    try:
        child.start()
        yield
    finally:
        child.stop()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False
