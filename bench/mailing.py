"""What the benches of mailing share: a sink, people to send to, processes that send, and what they take."""

import os
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.harness import Servers, Tenant
from core.actor import CLI
from models import TemplateVersion
from services.marketing import templates
from services.tenancy import tenants
from stack.dev import CACHE
from stack.processes import ChildProcess, StackError, free_port

_SINK: Final = Path("/usr/sbin/smtp-sink")
_PEOPLE: Final = 50_000
_PARAGRAPH: Final = (
    "<p>What is new this week, told in a sentence or two so that the mail has the size that mail has.</p>\n"
)
SUBJECT: Final = "Hello {{ person.first_name }}"
BODY: Final = (
    "<html><body>\n<h1>Hello {{ person.first_name }},</h1>\n" + _PARAGRAPH * 3
    + '<p>Number {{ person.attributes.n }}: <a href="https://shop.example/offers?week=48">look at it</a>.</p>\n'
    "</body></html>\n"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sink:
    """Postfix's `smtp-sink`, which takes all mail and keeps none."""

    port: int
    pid: int

    def received(self) -> int:
        """Return how many bytes it has read so far."""
        with Path(f"/proc/{self.pid}/io").open() as file:
            return int(file.readline().split()[1])


@contextmanager
def sink(running: Servers) -> Generator[Sink]:
    """Run a sink.

    Raises:
        StackError: it is not installed.
    """
    if not _SINK.exists():
        raise StackError("the bench `campaign` needs Postfix's smtp-sink: apt-get install postfix")
    port = free_port()
    listens_at = [f"127.0.0.1:{port}", "1000"]
    command = [_SINK, "-u", "nobody", *listens_at] if os.geteuid() == 0 else [_SINK, *listens_at]
    child = ChildProcess("smtp-sink", command, running.folder / "sink.log")
    child.start()
    try:
        child.wait_until(lambda: _listens(port))
        yield Sink(port, child.pid)
    finally:
        child.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def people(bench: Tenant, count: int) -> None:
    """Make so many people who may be sent to."""
    for made in range(0, count, _PEOPLE):
        await bench.people(min(_PEOPLE, count - made))


async def template(bench: Tenant) -> TemplateVersion:
    """Make the template that all send, and the tenant's address, which marketing must name."""
    async with bench.database.tenant(bench.id) as session:
        await tenants.update(session, {"postal_address": "Bench Street 1, 12345 Benchville"}, by=CLI)
        text = templates.Text(
            subject=SUBJECT, body=BODY, from_address="bench@bench.example", topic="news", name="campaign"
        )
        return (await templates.create(session, key="campaign", channel="email", text=text, by=CLI)).version


@contextmanager
def processes(running: Servers, port: int, *modules: Sequence[str]) -> Generator["Family"]:
    """Run modules of ours, each with its arguments, that send to a sink at `port`."""
    environment = {
        **os.environ,
        "DATABASE_URL": running.settings.database_url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "SMTP_URL": f"smtp://127.0.0.1:{port}",
        "DATA_DIR": str(running.folder / "data"),
        "LOG_LEVEL": "WARNING",
    }
    children = [
        ChildProcess(
            module,
            [sys.executable, "-m", module, *more],
            running.folder / "ours.log",
            env=environment,
            cwd=CACHE.parent,
        )
        for module, *more in modules
    ]
    try:
        for child in children:
            child.start()
        yield Family([child.pid for child in children])
    finally:
        for child in reversed(children):
            child.stop()


@dataclass(slots=True)
class Family:
    """Processes with all that they forked."""

    parents: Sequence[int]
    peak: int = 0
    """Most bytes of memory that they had at once where it was asked for; what they share counts once."""

    def look(self) -> None:
        """See how much memory they have."""
        total = 0
        for each in self._members():
            with suppress(psutil.Error):
                total += each.memory_full_info().pss
        self.peak = max(self.peak, total)

    def cpu(self) -> float:
        """Return the seconds of work that they have done."""
        total = 0.0
        for each in self._members():
            with suppress(psutil.Error):
                total += sum(each.cpu_times()[:2])
        return total

    def _members(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for pid in self.parents:
            with suppress(psutil.Error):
                parent = psutil.Process(pid)
                found += [parent, *parent.children(recursive=True)]
        return found
