"""Children end with us, and say why when they fail."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stack.processes import OFFERED, ChildProcess, StackError, file_lock, free_port, listening_socket, write_private
from tests.stack.waiting import is_gone, wait_for

PARENT = """
import sys, time
from pathlib import Path
from stack.processes import ChildProcess
child = ChildProcess("sleeper", ["sleep", "600"], Path(sys.argv[1])).start()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels send no signal when a parent dies")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()
    wait_for(lambda: is_gone(pid))


def test_stop_ends_the_child_and_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/grandchild; wait"
    child = ChildProcess("shell", ["sh", "-c", script], tmp_path / "log").start()
    grandchild = tmp_path / "grandchild"
    child.wait_until(lambda: grandchild.exists() and grandchild.read_text().strip() != "")
    child.stop()
    assert child.exit_code() == -signal.SIGTERM
    wait_for(lambda: is_gone(int(grandchild.read_text())))


def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    child = ChildProcess(
        "stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], tmp_path / "log"
    )
    child.start()
    child.wait_until(lambda: "up" in child.log_tail())
    child.stop(seconds=0.2)
    assert child.exit_code() == -signal.SIGKILL


def test_a_child_that_fails_is_reported_with_the_end_of_its_log_of_this_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("an older run\n")
    child = ChildProcess("broken", ["sh", "-c", "echo no such table; exit 3"], log).start()
    with pytest.raises(StackError, match=r"(?s)broken ended at once with code 3.*no such table") as caught:
        child.wait_until(lambda: False)
    assert "an older run" not in str(caught.value)


def test_a_child_that_is_never_ready_is_reported(tmp_path: Path) -> None:
    child = ChildProcess("slow", ["sleep", "600"], tmp_path / "log").start()
    try:
        with pytest.raises(StackError, match="slow was not ready within"):
            child.wait_until(lambda: False, seconds=0.1)
    finally:
        child.kill()


def test_a_taken_port_is_not_offered() -> None:
    port = free_port()
    assert port in OFFERED, "it could become a connection's"
    assert free_port(port) == port
    with subprocess.Popen(
        [sys.executable, "-c", f"import socket;s=socket.create_server(('127.0.0.1',{port}));print(1,flush=1);input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert free_port(port) != port
        holder.kill()


def test_a_lock_is_free_again_when_its_holder_is_done(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock"):
        taken = subprocess.run(["flock", "--nonblock", tmp_path / "lock", "true"], check=False)
    free = subprocess.run(["flock", "--nonblock", tmp_path / "lock", "true"], check=False)
    assert (taken.returncode, free.returncode) == (1, 0)


def test_a_private_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="not every kernel hands the option on")
def test_what_a_listening_socket_accepts_sends_at_once() -> None:
    with (
        listening_socket(0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
