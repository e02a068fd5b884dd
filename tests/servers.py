"""The real servers of a test run: one process starts each when a test first asks, for all test processes.

The pytest controller runs tests/server_process.py as a child and passes its address on in the environment; when the
controller goes, however it goes, that process and its servers go too.
"""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Client
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from stack.processes import ChildProcess, StackError

ADDRESS_VARIABLE = "THROUGHLINE_TEST_SERVERS"
KEY_VARIABLE = "THROUGHLINE_TEST_SERVERS_KEY"
_CONNECT_SECONDS = 30


def ask(server: str) -> str:
    """The address (URL, path) of `postgres`, `temporal` or `test-server`, started now if it was not.

    Raises:
        StackError: it cannot be had.
    """
    address, key = os.environ[ADDRESS_VARIABLE], bytes.fromhex(os.environ[KEY_VARIABLE])
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            connection = Client(address, authkey=key)
            break
        except (FileNotFoundError, ConnectionRefusedError):  # it is still starting
            if time.monotonic() > deadline:
                raise StackError(f"the process that starts test servers is gone; look at {address}.log") from None
            time.sleep(0.05)
    with connection:
        connection.send(server)
        found, answer = connection.recv()
    if not found:
        raise StackError(answer)
    return answer


@contextmanager
def running() -> Generator[None]:
    """Run the process that starts servers, for this process and its children."""
    folder = Path(tempfile.mkdtemp(prefix="throughline-test-"))
    folder.chmod(0o755)  # PostgreSQL's own account goes through it
    os.environ[ADDRESS_VARIABLE] = str(folder / "servers")
    os.environ[KEY_VARIABLE] = secrets.token_hex(32)
    child = ChildProcess(
        "The test servers",
        [sys.executable, "-m", "tests.server_process"],
        log_path=folder / "servers.log",
        cwd=Path(__file__).parents[1],
    ).start()
    try:
        yield
    finally:
        child.stop(seconds=60)
        shutil.rmtree(folder, ignore_errors=True)


def with_database(url: str, name: str) -> str:
    """`url` with another database's name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def database_name(url: str) -> str:
    """The name of the database that `url` is of."""
    return urlsplit(url).path[1:]


async def create_database(template_url: str, name: str) -> str:
    """Copy the migrated template; the new database's URL."""
    template = database_name(template_url)
    connection = await asyncpg.connect(with_database(template_url, "postgres"))
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    await connection.close()
    return with_database(template_url, name)


async def drop_databases(url: str, prefix: str) -> None:
    """Drop every database whose name begins with `prefix`, whoever is connected to it."""
    connection = await asyncpg.connect(with_database(url, "postgres"))
    rows = await connection.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix)
    for row in rows:
        await connection.execute(f'DROP DATABASE "{row["datname"]}" WITH (FORCE)')
    await connection.close()
