"""Identity, crm, marketing and commerce as four APIs and four workers: the brief's whole journey over them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from core.domains import DOMAINS, Domain
from relay.consumers import CONSUMERS
from stack import demo_access
from stack.demo import Demo
from stack.dev import ROOT, DevInfo
from stack.processes import ChildProcess, free_port
from tests.eventually import eventually
from tests.factories.gateway import Gateway, GatewayApp
from tests.providers.serving import serving
from tests.stack.test_monitoring import monitored

READY_SECONDS = 90
"""Eight processes start at once."""


WHERE_SOMETHING_FAILED = {"temporal_request_failure_total"}
"""Figures of Temporal's that there are none of before."""


class Apart:
    """The processes, and what stands in front of them."""

    def __init__(self, folder: Path, database_url: str, temporal_address: str) -> None:
        self._folder = folder
        self.mail_dir = folder / "mail"
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "TEMPORAL_ADDRESS": temporal_address,
            "SECRET_KEY": "only for these domains, thirty-two letters and more",
            "MAIL_DIR": str(self.mail_dir),
            "DATA_DIR": str(folder / "data"),
            "METRICS_LISTEN": "127.0.0.1:0",
            "ALLOW_PRIVATE_HOSTS": "true",  # the demo's program that is told of orders runs here
        }
        self.bases: dict[str, str] = {domain: f"http://127.0.0.1:{free_port()}" for domain in DOMAINS}
        self._names: list[str] = []
        self._running = AsyncExitStack()

    def start(self, public_url: str) -> None:
        """Start all eight."""
        self._environment["PUBLIC_URL"] = public_url
        for domain in DOMAINS:
            port = self.bases[domain].rpartition(":")[2]
            self._process(f"api-{domain}", "-m", "cli", "api", "--domain", domain, "--port", port)
            self._process(f"worker-{domain}", "worker.py", "--domain", domain)

    def _process(self, name: str, *arguments: str) -> None:
        log = self._folder / f"{name}.log"
        child = ChildProcess(name, [sys.executable, *arguments], log_path=log, env=self._environment, cwd=ROOT).start()
        self._names.append(name)
        self._running.callback(child.stop)

    async def ready(self) -> None:
        """Return once all can be asked."""
        async with httpx.AsyncClient() as client:
            for domain in DOMAINS:
                await eventually(lambda domain=domain: self._answers(client, domain), seconds=READY_SECONDS)

    async def _answers(self, client: httpx.AsyncClient, domain: Domain) -> bool:
        try:
            answer = await client.get(f"{self.bases[domain]}/readyz")
        except httpx.HTTPError:
            return False
        return answer.is_success and "worker.ready" in (self._folder / f"worker-{domain}.log").read_text()

    def queues(self, domain: Domain) -> list[str]:
        """What a domain's worker polls, as it says."""
        return self._said(f"worker-{domain}", "worker.ready")["task_queues"]

    def _said(self, name: str, what: str) -> Any:  # noqa: ANN401 - JSON
        log = (self._folder / f"{name}.log").read_text().splitlines()
        return next(json.loads(line) for line in log if what in line)

    async def scraped(self) -> dict[str, dict[str, list[Sample]]]:
        """What each process shows, by the names of the figures."""
        found: dict[str, dict[str, list[Sample]]] = {}
        async with httpx.AsyncClient(timeout=30) as client:
            for name in self._names:
                answer = await client.get(f"http://127.0.0.1:{self._said(name, 'metrics.ready')['port']}/metrics")
                found[name] = {}
                for family in text_string_to_metric_families(answer.text):
                    for sample in family.samples:
                        found[name].setdefault(sample.name, []).append(sample)
        return found

    async def stop(self) -> None:
        """Stop all."""
        await self._running.aclose()


@pytest.fixture
async def apart(
    empty_database_url: str, temporal_address: str, tmp_path: Path
) -> AsyncGenerator[tuple[Apart, DevInfo]]:
    access = await demo_access.prepare(empty_database_url, None)
    domains = Apart(tmp_path, empty_database_url, temporal_address)
    async with (
        httpx.AsyncClient(timeout=60) as client,
        serving(GatewayApp(Gateway.documented(), domains.bases, client)) as base_url,
    ):
        domains.start(base_url)
        try:
            await domains.ready()
            yield (
                domains,
                DevInfo(
                    pid=os.getpid(),
                    base_url=base_url,
                    api_key=access.api_key,
                    user_email=demo_access.OWNER_EMAIL,
                    user_password=access.user_password,
                    database_url=empty_database_url,
                    temporal_address=temporal_address,
                    temporal_ui_url=None,
                    mail_dir=str(domains.mail_dir),
                ),
            )
        finally:
            await domains.stop()


@pytest.mark.timeout(300)  # eight processes start, and the demo waits for real clocks
async def test_the_whole_journey_over_four_domains_apart(apart: tuple[Apart, DevInfo]) -> None:
    domains, info = apart
    expected = {domain: [domain] for domain in DOMAINS} | {"identity": ["identity", "webhooks"]}
    assert {domain: domains.queues(domain) for domain in DOMAINS} == expected
    lines: list[str] = []
    with Demo(info, lines.append) as demo:
        profile = await asyncio.to_thread(demo.run)
    assert profile["identity"]["is_customer"]
    assert profile["deals"][0]["status"] == "won"
    assert profile["campaigns"]["enrolled"]
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{domains.bases['identity']}/v1/deals")
    assert answer.status_code == 404
    _check_figures(await domains.scraped())


def _check_figures(found: dict[str, dict[str, list[Sample]]]) -> None:
    """The processes were measured meanwhile, and what is shown and watched for is to be had."""
    told = {sample.labels["route"] for sample in found["api-identity"]["throughline_http_requests_total"]}
    assert "/v1/people" in told
    assert not any("@" in route for route in told)
    (sent,) = [
        sample
        for sample in found["worker-marketing"]["throughline_messages_total"]
        if sample.labels == {"channel": "email", "result": "sent"}
    ]
    assert sent.value > 0
    lags = {
        sample.labels["consumer"]: sample.value for sample in found["worker-crm"]["throughline_consumer_lag_seconds"]
    }
    assert lags.keys() >= {consumer.name for consumer in CONSUMERS}
    assert max(lags.values()) < 60
    for kind in ("api", "worker"):
        (processes,) = [s for s in found["worker-crm"]["throughline_processes"] if s.labels == {"kind": kind}]
        assert processes.value == len(DOMAINS)
    (secrets,) = found["worker-crm"]["throughline_deployment_secrets"]
    assert secrets.value == 1
    shown = {name for process in found.values() for name in process}
    assert {name for name in monitored() if name.startswith("temporal_")} - WHERE_SOMETHING_FAILED <= shown
