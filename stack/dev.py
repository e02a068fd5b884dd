"""The whole of Throughline on one machine: servers, API and worker, watched until told to stop.

`.cache/dev.json` (0600) says where everything is; a lock beside it is held for as long as the stack runs, so there is
one stack a checkout, and a file that a crash left fools nobody.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import httpx
from pydantic import BaseModel, ValidationError

from migrations.run import upgrade
from stack import demo_access, postgres, temporal
from stack.processes import ChildProcess, StackError, listening_socket, write_private

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("THROUGHLINE_CACHE", ROOT / ".cache")).absolute()
"""Where a stack keeps everything; a second stack beside the first has a folder of its own."""
DATA = CACHE / "data"
INFO = CACHE / "dev.json"
LOG = CACHE / "dev.log"
"""What a detached stack prints."""
DEFAULT_API_PORT = 8080

_LOCK = CACHE / "dev.lock"
_POLL_SECONDS = 0.3
_READY_SECONDS = 60
_DETACHED_SECONDS = 900  # the first start may have to build Temporal
_QUICK_DEATH_SECONDS = 10
_QUICK_DEATHS = 3
_STOP_SECONDS = 90

Report = Callable[[str], None]


class DevInfo(BaseModel):
    """Where a running stack is to be found; the content of `.cache/dev.json`."""

    pid: int
    base_url: str
    api_key: str
    """Of the demo tenant, with every scope."""
    user_email: str
    user_password: str
    """Of its owner, to sign in with."""
    database_url: str
    temporal_address: str
    temporal_ui_url: str | None
    mail_dir: str | None
    """Where mail is written, None when SMTP_URL names a server for it."""

    @classmethod
    def read(cls) -> "DevInfo | None":
        """What the last stack left, running or not; None when there is nothing sound."""
        try:
            return cls.model_validate_json(INFO.read_text())
        except (OSError, ValidationError):
            return None


@dataclass
class _Service:
    """One watched part of the stack."""

    name: str
    start: Callable[[], object]
    alive: Callable[[], bool]
    stop: Callable[[], None]
    started: float = 0.0
    quick_deaths: int = 0


class DevStack:
    """Starts the parts in order, watches them, stops them in the opposite order."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._services: list[_Service] = []
        self._socket = listening_socket(DEFAULT_API_PORT)

    def start(self) -> DevInfo:
        """Start everything and write `.cache/dev.json`.

        Raises:
            StackError: a part cannot be had or does not start; what had started is still to be stopped by `stop`.
        """
        DATA.mkdir(parents=True, exist_ok=True)
        store = postgres.choose(DATA, report=self._report)
        self._add(_Service("PostgreSQL", store.start, store.alive, store.stop))
        database_url = store.start()
        engine = temporal.choose(DATA, cache=CACHE, report=self._report)
        self._add(_Service("Temporal", engine.start, engine.alive, engine.stop))
        address = engine.start()
        self._report("Migrating the database ...")
        asyncio.run(upgrade(database_url))
        access = asyncio.run(demo_access.prepare(database_url, DevInfo.read()))
        base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        mail_dir = None if os.environ.get("SMTP_URL") else os.environ.get("MAIL_DIR", str(CACHE / "mail"))
        environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "TEMPORAL_ADDRESS": address,
            "SECRET_KEY": _secret_key(),
            "PUBLIC_URL": os.environ.get("PUBLIC_URL", base_url),
            "DATA_DIR": os.environ.get("DATA_DIR", str(DATA)),
            # so that a developer's own programs, on the same machine, can be told of events
            "ALLOW_PRIVATE_HOSTS": os.environ.get("ALLOW_PRIVATE_HOSTS", "true"),
            **({"MAIL_DIR": mail_dir} if mail_dir else {}),
        }
        self._start_api(base_url, environment)
        self._start_worker(environment)
        info = DevInfo(
            pid=os.getpid(),
            base_url=base_url,
            api_key=access.api_key,
            user_email=demo_access.OWNER_EMAIL,
            user_password=access.user_password,
            database_url=database_url,
            temporal_address=address,
            temporal_ui_url=engine.ui_url,
            mail_dir=mail_dir,
        )
        write_private(INFO, info.model_dump_json(indent=2) + "\n")
        return info

    def watch(self) -> None:
        """Restart what dies, until interrupted; StackError when a part keeps dying at once."""
        while True:
            time.sleep(_POLL_SECONDS)
            for service in self._services:
                if service.alive():
                    continue
                quick = time.monotonic() - service.started < _QUICK_DEATH_SECONDS
                service.quick_deaths = service.quick_deaths + 1 if quick else 0
                if service.quick_deaths >= _QUICK_DEATHS:
                    raise StackError(f"{service.name} keeps ending right after its start; its log is in {DATA}")
                self._report(f"{service.name} ended unexpectedly; starting it again ...")
                service.started = time.monotonic()
                service.start()

    def stop(self) -> None:
        """Stop everything that was started, the last part first."""
        while self._services:
            service = self._services.pop()
            self._report(f"Stopping {service.name} ...")
            service.stop()
        self._socket.close()

    def _add(self, service: _Service) -> None:
        service.started = time.monotonic()
        self._services.append(service)

    def _add_process(self, child: ChildProcess, ready: Callable[[], bool]) -> None:
        def start() -> None:
            child.start()
            child.wait_until(ready, seconds=_READY_SECONDS)

        self._report(f"Starting the {child.name} ...")
        self._add(_Service(f"The {child.name}", start, lambda: child.exit_code() is None, child.stop))
        start()

    def _start_api(self, base_url: str, environment: dict[str, str]) -> None:
        # The socket is ours before the API runs and while it is started again, so nobody else answers in its place.
        fd = str(self._socket.fileno())
        command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--fd", fd]
        child = ChildProcess(
            "API", command, log_path=DATA / "api.log", env=environment, cwd=ROOT, keep_open=[self._socket.fileno()]
        )
        self._add_process(child, lambda: _answers(f"{base_url}/readyz"))

    def _start_worker(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "worker.py"]
        child = ChildProcess("worker", command, log_path=DATA / "worker.log", env=environment, cwd=ROOT)
        address = environment["TEMPORAL_ADDRESS"]
        self._add_process(child, lambda: asyncio.run(temporal.has_poller(address, child.pid)))


def run(report: Report, *, started: Callable[[DevInfo], None]) -> None:
    """Run the stack in the foreground until Ctrl-C or SIGTERM; `started` is called once all is up.

    Raises:
        StackError: it runs already, or a part of it cannot.
    """
    with _sole_stack():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.default_int_handler)
        stack = DevStack(report)
        try:
            started(stack.start())
            stack.watch()
        except KeyboardInterrupt:
            report("")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # stopping takes seconds; a second Ctrl-C must not cut it short
            stack.stop()


def run_detached(report: Report) -> DevInfo:
    """Run the stack in the background, or find it running; returns when all is up.

    Raises:
        StackError: it did not come up; the message quotes its output.
    """
    if is_running():
        return _info_of_running()
    CACHE.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stack.dev"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _DETACHED_SECONDS
    with LOG.open() as output:
        while True:
            _pass_on(output, report)
            info = DevInfo.read()
            if info is not None and info.pid == process.pid:
                return info
            if process.poll() is not None or time.monotonic() > deadline:
                _pass_on(output, report)
                raise StackError(f"the stack did not come up; see {LOG}")
            time.sleep(_POLL_SECONDS)


def stop_running(report: Report) -> None:
    """Stop the stack of this checkout, however it was started; harmless when none runs."""
    if not is_running():
        report("No stack is running.")
        return
    os.kill(_holder(), signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while is_running():
        if time.monotonic() > deadline:
            raise StackError(f"the stack did not stop within {_STOP_SECONDS} s; see {LOG}")
        time.sleep(_POLL_SECONDS)
    report("Stopped.")


def is_running() -> bool:
    """Whether a stack of this checkout runs (or starts, or stops)."""
    if not _LOCK.exists():
        return False
    with _LOCK.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _holder() -> int:
    """The process that holds the lock, as it wrote there."""
    return int(_LOCK.read_text() or 0)


def _info_of_running() -> DevInfo:
    deadline = time.monotonic() + _DETACHED_SECONDS
    while (info := DevInfo.read()) is None or info.pid != _holder():
        if not is_running() or time.monotonic() > deadline:
            raise StackError("the stack that was starting did not come up")
        time.sleep(_POLL_SECONDS)
    return info


@contextlib.contextmanager
def _sole_stack() -> Generator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("a+") as handle:
        deadline = time.monotonic() + 1  # somebody may be trying the lock at this moment
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError("the stack runs already; `throughline down` stops it") from None
                time.sleep(_POLL_SECONDS)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _pass_on(output: TextIO, report: Report) -> None:
    for line in output:
        report(line.rstrip("\n"))


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).is_success
    return False


def _secret_key() -> str:
    """The key that signs tokens: the environment's, else one made once for this checkout."""
    given = os.environ.get("SECRET_KEY")
    if given:
        return given
    path = DATA / "secret-key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48))
    return path.read_text()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":  # what run_detached starts
    try:
        run(_say, started=lambda _info: None)
    except StackError as failure:
        sys.exit(str(failure))
