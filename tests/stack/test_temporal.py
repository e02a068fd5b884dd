"""The development Temporal loses nothing, and says what to do when it cannot be had."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from stack import temporal, time_skipping
from stack.dev import CACHE
from stack.processes import StackError, free_port
from stack.temporal import DevTemporal, GivenTemporal


@workflow.defn(sandboxed=False)
class Waiting:
    def __init__(self) -> None:
        self._told: str | None = None

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self._told is not None, timeout=timedelta(minutes=5))
        return self._told or ""

    @workflow.signal
    def tell(self, word: str) -> None:
        self._told = word


async def test_a_killed_server_comes_back_on_its_port_with_every_workflow(tmp_path: Path) -> None:
    server = DevTemporal(tmp_path, cache=CACHE, port=free_port(), ui=False)
    address = await asyncio.to_thread(server.start)
    try:
        client = await Client.connect(address)
        handle = await client.start_workflow(Waiting.run, id="waiting", task_queue="here")
        await asyncio.to_thread(server.crash)
        assert await asyncio.to_thread(server.start) == address
        async with Worker(client, task_queue="here", workflows=[Waiting]):
            await handle.signal(Waiting.tell, "still here")
            assert await handle.result() == "still here"
    finally:
        await asyncio.to_thread(server.stop)


async def test_two_servers_never_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal, "_LOCK_SECONDS", 0.2)
    first, second = (DevTemporal(tmp_path, cache=CACHE, port=free_port(), ui=False) for _ in range(2))
    await asyncio.to_thread(first.start)
    try:
        with pytest.raises(StackError, match=r"another Temporal server uses .*temporal\.db"):
            await asyncio.to_thread(second.start)
    finally:
        await asyncio.to_thread(first.stop)


async def test_the_web_interface_answers_where_it_is_said_to_be(tmp_path: Path) -> None:
    server = DevTemporal(tmp_path, cache=CACHE, port=free_port())
    await asyncio.to_thread(server.start)
    try:
        assert server.ui_url is not None
        port = int(server.ui_url.rpartition(":")[2])
        assert free_port(port) != port
    finally:
        await asyncio.to_thread(server.stop)


def test_where_nothing_can_be_had_one_error_names_the_four_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(temporal, "DOWNLOAD_SITE", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StackError) as caught:
        temporal.find_program(tmp_path, lambda _line: None)
    text = str(caught.value)
    assert [way for way in ("1. set TEMPORAL_ADDRESS", "2. put", "3. allow", "4. install Go") if way not in text] == []
    assert "does not answer" in text
    assert "there is no Go 1.21 or newer on PATH" in text


def test_a_program_in_the_cache_is_taken_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "bin" / "temporal"
    program.parent.mkdir()
    program.touch()
    assert temporal.find_program(tmp_path, lambda _line: None) == program


def test_without_java_the_missing_test_server_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(temporal, "DOWNLOAD_SITE", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StackError, match="no java and no mvn on PATH"):
        time_skipping.find_test_server(tmp_path, lambda _line: None)


def test_temporal_address_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    chosen = temporal.choose(tmp_path, cache=tmp_path, report=lambda _line: None)
    assert isinstance(chosen, GivenTemporal)
    assert chosen.start() == "temporal.example:7233"
