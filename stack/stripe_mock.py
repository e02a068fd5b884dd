"""Stripe's own mock of its API, for tests: it checks requests against the API's description and answers examples."""

import contextlib
import shutil
from pathlib import Path

import httpx

from stack.processes import ChildProcess, StackError, file_lock, free_port, taking_ports
from stack.temporal import Report, build_with_go

GO_PACKAGE = "github.com/stripe/stripe-mock@v0.203.0"
_READY_SECONDS = 60


def find_stripe_mock(cache: Path, report: Report) -> Path:
    """The program: on PATH, in `cache`/bin, or built with Go.

    Raises:
        StackError: it cannot be had; the message says why.
    """
    on_path = shutil.which("stripe-mock")
    if on_path is not None:
        return Path(on_path)
    target = cache / "bin" / "stripe-mock"
    with file_lock(cache / "stripe-mock-install.lock"):
        if not target.exists():
            reason = build_with_go(GO_PACKAGE, target, report, what="stripe-mock", long="a minute, once")
            if reason is not None:
                raise StackError(f"No stripe-mock: {reason}")
    return target


def start_stripe_mock(folder: Path, *, cache: Path, report: Report) -> tuple[ChildProcess, str]:
    """Start it; the process and its address, `http://host:port`."""
    program = find_stripe_mock(cache, report)
    with taking_ports():
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        arguments = [program, "-http-addr", f"127.0.0.1:{port}"]
        child = ChildProcess("stripe-mock", arguments, log_path=folder / "stripe-mock.log").start()
        try:
            child.wait_until(lambda: _answers(url), seconds=_READY_SECONDS)
        except BaseException:
            child.kill()
            raise
    return child, url


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(url, timeout=5)
        return True
    return False
