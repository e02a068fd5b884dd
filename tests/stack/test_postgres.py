"""The embedded PostgreSQL keeps what it was given, whatever happens to it."""

import asyncio
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import asyncpg
import pytest

from stack.postgres import EmbeddedPostgres, GivenPostgres, choose


@pytest.fixture(params=[18, 16])
def server(request: pytest.FixtureRequest) -> Generator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own temporary folders are closed to PostgreSQL's account
        server = EmbeddedPostgres(Path(folder), major=request.param)
        server.start()
        yield server
        server.stop()


async def value(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_clean_stop_keeps_the_data_and_the_port(server: EmbeddedPostgres) -> None:
    url = server.url()
    await value(url, "CREATE TABLE kept AS SELECT 1 AS one")
    await asyncio.to_thread(server.stop)
    assert await asyncio.to_thread(server.start) == url
    assert await value(url, "SELECT one FROM kept") == 1


async def test_a_killed_server_is_taken_over_by_the_next_start(server: EmbeddedPostgres) -> None:
    url = server.url()
    await value(url, "CREATE TABLE kept AS SELECT 1 AS one")
    await asyncio.to_thread(server.crash)
    assert server.folder.joinpath("data", "postmaster.pid").exists()  # the mark of one that runs, left by the dead
    assert await asyncio.to_thread(server.start) == url
    assert await value(url, "SELECT one FROM kept") == 1


async def test_a_second_user_of_the_folder_finds_the_server_and_leaves_it_running(server: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(server.folder.parent, major=int(server.folder.name.rpartition("-")[2]))
    assert await asyncio.to_thread(second.start) == server.url()
    second.stop()
    assert await value(server.url(), "SELECT 1") == 1


async def test_it_asks_for_the_password_and_promises_durability(server: EmbeddedPostgres) -> None:
    url = server.url()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(url.replace(url.split(":")[2].split("@")[0], "guess"), "SELECT 1")
    settings = "SELECT current_setting('fsync') || current_setting('synchronous_commit') || current_setting('TimeZone')"
    assert await value(url, settings) == "ononUTC"
    assert await value(url, "SELECT current_setting('listen_addresses')") == "127.0.0.1"
    assert await value(url, "SELECT lower('ÄÖÜ')") == "äöü"
    assert server.folder.joinpath("password").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give its rights away, and has unreachable folders")
async def test_as_root_it_runs_as_another_account_even_from_a_folder_closed_to_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    reports: list[str] = []
    server = EmbeddedPostgres(closed / "data", report=reports.append)
    try:
        url = await asyncio.to_thread(server.start)
        assert await value(url, "SELECT 1") == 1
        pid = int(server.folder.joinpath("data", "postmaster.pid").read_text().split()[0])
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert any("cannot reach" in line for line in reports)
    finally:
        await asyncio.to_thread(server.remove)


async def test_a_stale_mark_with_another_programs_number_is_seen_through(server: EmbeddedPostgres) -> None:
    mark = server.folder.joinpath("data", "postmaster.pid")
    lines = mark.read_text().splitlines()
    await asyncio.to_thread(server.crash)
    mark.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    await asyncio.to_thread(server.start)
    assert await value(server.url(), "SELECT 1") == 1
    assert int(mark.read_text().split()[0]) != os.getpid()


def test_database_url_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@elsewhere/mine")
    chosen = choose(tmp_path, report=lambda _line: None)
    assert isinstance(chosen, GivenPostgres)
    assert chosen.start() == "postgresql://me@elsewhere/mine"
