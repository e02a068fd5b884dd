"""The process that starts a test run's servers and answers who asks for them; see tests/servers.py."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Listener
from pathlib import Path

import asyncpg
import docker
from docker.errors import DockerException
from testcontainers.community.postgres import PostgresContainer

from migrations.run import upgrade
from stack.dev import CACHE
from stack.postgres import DEFAULT_MAJOR, NOT_DURABLE, EmbeddedPostgres, GivenPostgres
from stack.processes import free_port
from stack.stripe_mock import start_stripe_mock
from stack.temporal import DevTemporal
from stack.time_skipping import find_test_server
from tests import servers

MAJOR_VARIABLE = "TEST_POSTGRES_MAJOR"
"""Which PostgreSQL the tests run on, where the choice is ours: 16 or 18 (the default)."""


class ContainerPostgres:
    """PostgreSQL in a container, where a Docker engine answers."""

    def __init__(self, major: int) -> None:
        settings = " ".join(f"-c {name}={value}" for name, value in NOT_DURABLE.items())
        self._container = PostgresContainer(f"postgres:{major}", driver=None).with_command(f"postgres {settings}")

    @staticmethod
    def available() -> bool:
        """Whether a Docker engine answers."""
        try:
            client = docker.from_env(timeout=3)
            client.ping()  # pyright: ignore[reportUnknownMemberType]  # docker is untyped
            client.close()
        except DockerException:
            return False
        return True

    def start(self) -> str:
        """Start it; the superuser's URL."""
        return self._container.start().get_connection_url(host="127.0.0.1")

    def stop(self) -> None:
        """Stop and remove it."""
        self._container.stop()


class _Servers:
    """What was started so far, and how to start the rest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: dict[str, str] = {}
        self._stop: list[Callable[[], object]] = []
        self._prefix = f"tl_test_{secrets.token_hex(4)}"

    def get(self, server: str) -> str:
        if server not in self._answers:
            start = {
                "postgres": self._postgres,
                "temporal": self._temporal,
                "test-server": self._test_server,
                "stripe-mock": self._stripe_mock,
            }
            self._answers[server] = start[server]()
        return self._answers[server]

    def stop(self) -> None:
        while self._stop:
            self._stop.pop()()

    def _postgres(self) -> str:
        """The URL of the migrated template; databases made from it must begin with its name, to be dropped."""
        major = int(os.environ.get(MAJOR_VARIABLE, DEFAULT_MAJOR))
        given = os.environ.get("DATABASE_URL")
        server: GivenPostgres | ContainerPostgres | EmbeddedPostgres
        if given:
            server = GivenPostgres(given)
        elif ContainerPostgres.available():
            server = ContainerPostgres(major)
        else:
            server = EmbeddedPostgres(self._folder, major=major, durable=False, report=_report)
        url = server.start()
        self._stop.append(server.stop)
        asyncio.run(self._make_template(url))
        if given:
            self._stop.append(lambda: asyncio.run(servers.drop_databases(url, self._prefix)))
        return servers.with_database(url, self._prefix)

    async def _make_template(self, url: str) -> None:
        connection = await asyncpg.connect(servers.with_database(url, "postgres"))
        await connection.execute(f'CREATE DATABASE "{self._prefix}"')
        await connection.close()
        await upgrade(servers.with_database(url, self._prefix))

    def _temporal(self) -> str:
        given = os.environ.get("TEMPORAL_ADDRESS")
        if given:
            return given
        server = DevTemporal(self._folder, cache=CACHE, report=_report, port=free_port(), ui=False)
        address = server.start()
        self._stop.append(server.crash)  # nothing of it is kept, so nobody waits for a clean end
        return address

    def _test_server(self) -> str:
        return str(find_test_server(CACHE, _report))

    def _stripe_mock(self) -> str:
        child, url = start_stripe_mock(self._folder, cache=CACHE, report=_report)
        self._stop.append(child.kill)
        return url


def _report(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit


def serve() -> None:
    """Answer test processes, one at a time, until told to stop."""
    signal.signal(signal.SIGTERM, _end)
    address = os.environ[servers.ADDRESS_VARIABLE]
    started = _Servers(Path(address).parent)
    try:
        with Listener(address, "AF_UNIX", authkey=bytes.fromhex(os.environ[servers.KEY_VARIABLE])) as listener:
            while True:
                with listener.accept() as connection:
                    try:
                        connection.send((True, started.get(connection.recv())))
                    except Exception as error:  # noqa: BLE001 - whatever it is, the test that asked must hear of it
                        connection.send((False, f"{type(error).__name__}: {error}"))
    finally:
        started.stop()


if __name__ == "__main__":
    serve()
