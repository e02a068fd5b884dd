"""Child processes with a log file each, that never outlive us and say why when they fail."""

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Final, Self

_POLL_SECONDS = 0.02
_TAIL_LINES = 25
_LAUNCHER = Path(__file__).with_name("child.py")


class StackError(Exception):
    """A server of the development stack cannot be had; the message tells the user why and what to do."""


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """The unprivileged account a child runs as when we are root."""

    uid: int
    gid: int


@dataclass(eq=False)
class ChildProcess:
    """One program in a session of its own, its output appended to `log_path`.

    A Ctrl-C in the terminal reaches only us, so we stop children in our order. When we are killed outright the kernel
    sends `stop_signal` to the child (Linux only), so call `start` from a thread that lives as long as the child should.
    """

    name: str
    command: Sequence[str | Path]
    log_path: Path
    _: KW_ONLY
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: ProcessUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    keep_open: Sequence[int] = ()
    """File descriptors the child inherits."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _log_start: int = field(default=0, init=False, repr=False)

    @property
    def pid(self) -> int:
        """The operating system's number of the running child; StackError before `start`."""
        if self._process is None:
            raise StackError(f"{self.name} was not started")
        return self._process.pid

    def start(self) -> Self:
        """Start the program; returns at once, see `wait_until`."""
        user = self.user or ProcessUser(-1, -1)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-S", "-E", str(_LAUNCHER), str(int(self.stop_signal)), str(os.getpid())]
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*launcher, str(user.uid), str(user.gid), "--", *map(str, self.command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
                pass_fds=self.keep_open,
            )
        return self

    def exit_code(self) -> int | None:
        """How the child ended, None while it runs (or before `start`)."""
        return None if self._process is None else self._process.poll()

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines this run of the child wrote."""
        with contextlib.suppress(FileNotFoundError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def failure(self, what: str) -> StackError:
        """An error that says `what` happened to this child and quotes its log's end."""
        return StackError(f"{self.name} {what}. The end of {self.log_path}:\n{self.log_tail()}")

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30) -> None:
        """Wait until `ready()`; StackError with the log's tail when the child ends or the time passes first."""
        deadline = time.monotonic() + seconds
        while not ready():
            code = self.exit_code()
            if code is not None:
                raise self.failure(f"ended at once with code {code}")
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready within {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def stop(self, *, seconds: float = 15) -> None:
        """Ask the child to stop, wait, and kill its whole group when it does not. Harmless when it has ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        with contextlib.suppress(ProcessLookupError):  # what the child itself left behind in its session
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the child and its group with SIGKILL, as a crash would, and wait for its end."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


OFFERED: Final = range(10_000, 32_768)
"""Ports that no system hands out by itself: below those of connections, which begin at 32768 on Linux.

One of the others may be a connection's, or somebody's who asked for any, by the time that who was told it listens.
"""


def free_port(preferred: int | None = None) -> int:
    """`preferred` when nothing listens on it, else a free TCP port of 127.0.0.1."""
    offered = random.sample(OFFERED, 100)
    for port in offered if preferred is None else (preferred, *offered):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise StackError("no free TCP port on 127.0.0.1")


def listening_socket(preferred: int) -> socket.socket:
    """A socket that listens on 127.0.0.1: on the port `preferred` when it is to be had, else on a free one."""
    for port in (preferred, 0):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio does it for sockets of its own alone: an answer's body would wait 40 ms for the ACK of its headers
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(1024)
        except OSError:
            listener.close()
            continue
        return listener
    raise StackError("no TCP port of 127.0.0.1 is to be had")


@contextlib.contextmanager
def file_lock(path: Path) -> Generator[None]:
    """Hold an exclusive lock on `path` (made when absent), waiting for whoever has it; freed when a holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def taking_ports() -> Generator[None]:
    """Keep our other processes on this machine from choosing ports until the block ends: by then they are taken.

    A port that is free when it is chosen may be gone when the server binds it, and another server's answer on it would
    be taken for ours.
    """
    with file_lock(Path(tempfile.gettempdir()) / f"throughline-ports-{os.getuid()}.lock"):
        yield


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner can read."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with open(partial, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
        handle.write(text)
    partial.replace(path)
