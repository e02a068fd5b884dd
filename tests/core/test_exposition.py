"""What a scraper gets, and what it does not take from the process's work."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core import metrics
from core.exposition import PORTS, Exposition, exposed
from stack.processes import free_port


class One(Collector):
    """Shows how often it was brought up to date."""

    def __init__(self) -> None:
        self.refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("one", "How often.", value=self.refreshed)]


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


async def test_figures_are_brought_up_to_date_for_each_scrape(client: httpx.AsyncClient) -> None:
    one = One()
    metrics.BUS_FAILURES.labels("scraped").inc(0)
    async with exposed(Exposition([one], refresh=one.refresh), "127.0.0.1:0") as port:
        for number in (1, 2):
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert f"\none {number}.0\n" in f"\n{answer.text}"
            assert 'throughline_bus_failures_total{consumer="scraped"}' in answer.text


async def test_nothing_else_is_answered(client: httpx.AsyncClient) -> None:
    one = One()
    async with exposed(Exposition([one], refresh=one.refresh), "127.0.0.1:0") as port:
        base = f"http://127.0.0.1:{port}"
        assert (await client.get(base)).status_code == 404
        assert (await client.post(f"{base}/metrics", content=b"x")).status_code == 405
        assert (await client.head(f"{base}/metrics?name=x")).content == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""
        writer.close()
    assert one.refreshed == 1


async def test_figures_beside_that_do_not_answer_are_left_out(client: httpx.AsyncClient) -> None:
    async with exposed(Exposition([One()], beside=f"127.0.0.1:{free_port()}"), "127.0.0.1:0") as port:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.is_success
    assert "\none 0.0\n" in answer.text


async def test_processes_of_one_machine_take_the_next_ports() -> None:
    first = free_port(20_000)
    async with exposed(Exposition(), f"127.0.0.1:{first}") as one, exposed(Exposition(), f"127.0.0.1:{first}") as two:
        assert one == first
        assert two is not None
        assert first < two < first + PORTS


async def test_without_a_port_the_process_goes_on() -> None:
    async with exposed(Exposition(), "192.0.2.1:9464") as port:  # an address that no machine has
        assert port is None
