"""A whole deployment of real processes that may be killed: Postgres, Temporal, an API and two workers."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
import httpx
from temporalio.client import Client

from migrations.run import prepare_roles, upgrade
from relay.restoring import restored
from stack.dev import CACHE, ROOT
from stack.postgres import EmbeddedPostgres
from stack.processes import ChildProcess, StackError, free_port
from stack.temporal import DevTemporal, has_poller
from tests.chaos.mail_sink import MailSink
from tests.dumping import run_program

WORKERS: Final = 2
SECRET_KEY: Final = "only for chaos, thirty-two letters and more"
READY: Final = "worker.ready"
"""What a worker logs."""
READY_SECONDS: Final = 60
POLL_SECONDS: Final = 0.1


def say(line: str) -> None:
    """Tell the story of a run; pytest shows it when the test fails."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")


class Deployment:
    """Everything in `folder`; a context that starts and stops all of it."""

    def __init__(self, folder: Path, sink: MailSink, *, workers: int = WORKERS, dump: Path | None = None) -> None:
        """Begin in a folder with nothing in it, or with what `pg_dump` wrote of another's database."""
        folder.chmod(0o755)  # PostgreSQL's own account goes through it
        self.sink = sink
        self._dump = dump
        self._count = workers
        self._folder = folder
        self._runner = asyncio.Runner()
        self._postgres = EmbeddedPostgres(folder)
        self._temporal = DevTemporal(folder, cache=CACHE, port=free_port(), ui=False)
        self._processes: list[ChildProcess] = []
        self._started: dict[ChildProcess, float] = {}
        self._killed: set[ChildProcess] = set()
        self._outage_ended = 0.0
        self.kills: Counter[str] = Counter()
        """By the name of the process."""
        self.database_url = ""
        self.base_url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        self.database_url = self._postgres.start()
        if self._dump is not None:
            self._restore(self._dump)
        self._runner.run(upgrade(self.database_url))
        self._address = self._temporal.start()
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "TEMPORAL_ADDRESS": self._address,
            "SECRET_KEY": SECRET_KEY,
            "PUBLIC_URL": self.base_url,
            "SMTP_URL": self.sink.url,
            "DATA_DIR": str(self._folder / "data"),
            "ALLOW_PRIVATE_HOSTS": "true",  # tests listen on this machine
        }
        uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--host", "127.0.0.1"]
        self.api = self._process("api", [*uvicorn, "--port", str(port)], {**environment, "LOG_LEVEL": "WARNING"})
        self.workers = [
            self._process(f"worker-{number}", [sys.executable, "worker.py"], environment)
            for number in range(self._count)
        ]
        self.api.wait_until(self.api_answers, seconds=READY_SECONDS)
        for worker in self.workers:
            worker.wait_until(lambda pid=worker.pid: self.run(has_poller(self._address, pid)), seconds=READY_SECONDS)

    def _process(self, name: str, command: list[str], environment: Mapping[str, str]) -> ChildProcess:
        child = ChildProcess(name, command, log_path=self._folder / f"{name}.log", env=environment, cwd=ROOT).start()
        self._processes.append(child)
        self._started[child] = time.monotonic()
        return child

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._temporal.stop()
        self._postgres.stop()
        self._runner.close()

    # -- What is done to it --

    def dump(self, path: Path) -> None:
        """Stop all but Postgres, and write what that holds."""
        for process in reversed(self._processes):
            process.stop()
        self._temporal.crash()
        run_program("pg_dump", "--format=custom", f"--file={path}", f"--dbname={self.database_url}")

    def _restore(self, dump: Path) -> None:
        """As docs/backup.md has it."""
        self._runner.run(prepare_roles(self.database_url))
        into = f"--dbname={self.database_url}"
        run_program("pg_restore", "--exit-on-error", "--single-transaction", into, str(dump))
        say(str(self._runner.run(restored(self.database_url))))

    def kill(self, process: ChildProcess) -> None:
        """`kill -9`; `revive` starts it again."""
        process.kill()
        self._killed.add(process)
        self.kills[process.name] += 1

    def revive(self) -> None:
        """Start what is down, as a supervisor would.

        Raises:
            StackError: a process has ended by itself. That is only for one that was starting during an outage.
        """
        for process in self._processes:
            code = process.exit_code()
            if code is None:
                continue
            starting = self._started[process] < self._outage_ended and READY not in process.log_tail()
            if process not in self._killed and not starting:
                raise process.failure(f"ended by itself with code {code}")
            self._killed.discard(process)
            self._started[process] = time.monotonic()
            process.start()

    def lose_temporal(self, seconds: float) -> None:
        """Kill Temporal, have the others do without it for a while, and start it again on its files."""
        self._temporal.crash()
        time.sleep(seconds)
        if self._temporal.start() != self._address:
            raise StackError("Temporal came back somewhere else")
        self._outage_ended = time.monotonic()

    def lose_postgres(self, seconds: float) -> None:
        """Kill Postgres, have the others do without it for a while, and start it again on its files."""
        self._postgres.crash()
        time.sleep(seconds)
        if self._postgres.start() != self.database_url:
            raise StackError("Postgres came back somewhere else")
        self._outage_ended = time.monotonic()

    # -- What is asked of it --

    def run(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine and its result
        """Run a coroutine to its end."""
        return self._runner.run(work)

    def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Ask Postgres, as one whom row-level security does not concern."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await connection.fetch(sql, *arguments)
            finally:
                await connection.close()

        return self.run(ask())

    def count(self, sql: str, *arguments: object) -> int:
        """Ask Postgres for one number."""
        return self.fetch(sql, *arguments)[0][0]

    def workflows(self, query: str) -> list[str]:
        """The ids of the workflows that a query of Temporal's finds."""

        async def ask() -> list[str]:
            client = await Client.connect(self._address)
            return [execution.id async for execution in client.list_workflows(query)]

        return self.run(ask())

    def api_answers(self) -> bool:
        """Whether the API is ready."""
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def wait_for(
        self, what: str, done: Callable[[], bool], *, seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Return once `done()`, doing `meanwhile` and reviving processes; fail when it does not come in time."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            self.revive()
            meanwhile()
            time.sleep(POLL_SECONDS)

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of every process's log."""
        return [(f"the end of {process.name}'s log", process.log_tail()) for process in self._processes]

    def logs(self, words: str) -> list[str]:
        """The lines of all processes' logs that hold `words`."""
        lines = (line for process in self._processes for line in process.log_path.read_text().splitlines())
        return [line for line in lines if words in line]
