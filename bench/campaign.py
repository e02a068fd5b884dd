"""A campaign's mails from the queue to the sink, all records kept, against a bare client that sends as much.

Both send to Postfix's `smtp-sink`. The bare client, the ideal, keeps no record and writes no letter.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
import psutil
from sqlalchemy import String, cast, func, literal, null, select

from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from core.actor import CLI
from integrations.email.port import Mail
from models import MessagePage, Person, TemplateVersion
from sender.letters import Letters
from services.marketing import queueing, templates
from stack.dev import CACHE
from stack.processes import ChildProcess, StackError, free_port

_SINK: Final = Path("/usr/sbin/smtp-sink")
RECIPIENTS: Final = 100_000 if FULL else 20_000
RUNS: Final = 3
SENDERS: Final = 2
CONNECTIONS: Final = 20
_PEOPLE: Final = 50_000
_PARAGRAPH: Final = (
    "<p>What is new this week, told in a sentence or two so that the mail has the size that mail has.</p>\n"
)
BODY: Final = (
    "<html><body>\n<h1>Hello {{ person.first_name }},</h1>\n" + _PARAGRAPH * 3
    + '<p>Number {{ person.attributes.n }}: <a href="https://shop.example/offers?week=48">look at it</a>.</p>\n'
    "</body></html>\n"
)  # fmt: skip


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure, the two in turns; see the module."""
    if not _SINK.exists():
        raise StackError("the bench `campaign` needs Postfix's smtp-sink: apt-get install postfix")
    ours: list[float] = []
    bare: list[float] = []
    size = 0
    async with tenant(running, "campaign") as bench:
        version = await _template(bench)
        for made in range(0, RECIPIENTS, _PEOPLE):
            await bench.people(min(_PEOPLE, RECIPIENTS - made))
        for number in range(RUNS):
            await _queue(bench, version, number)
            size = await _mail_size(bench, running)
            with _sink(running) as port:
                bare.append(RECIPIENTS / await _bare(port, size))
                ours.append(RECIPIENTS / await _send(bench, running, port, report))
    report(f"ours {median(ours):,.0f} mails/s, bare client {median(bare):,.0f} mails/s; {size} bytes a mail")
    return [Ratio("campaign-bare", median(ours) / median(bare), 0.25, at_least=True)]


@contextmanager
def _sink(running: Servers) -> Generator[int]:
    port = free_port()
    command = (
        [_SINK, "-u", "nobody", f"127.0.0.1:{port}", "1000"]
        if os.geteuid() == 0
        else [_SINK, f"127.0.0.1:{port}", "1000"]
    )
    child = ChildProcess("smtp-sink", command, running.folder / "sink.log")
    child.start()
    try:
        child.wait_until(lambda: _listens(port))
        yield port
    finally:
        child.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _template(bench: Tenant) -> TemplateVersion:
    async with bench.database.tenant(bench.id) as session:
        text = templates.Text(
            subject="Hello {{ person.first_name }}",
            body=BODY,
            from_address="bench@bench.example",
            topic="news",
            name="campaign",
        )
        return (await templates.create(session, key="campaign", channel="email", text=text, by=CLI)).version


async def _queue(bench: Tenant, version: TemplateVersion, number: int) -> None:
    source = select(
        Person.id.label("person_id"),
        func.concat(literal(f"campaign:{number}:"), cast(Person.id, String)).label("dedupe_key"),
        null().label("enrollment_id"),
        null().label("campaign_id"),
    ).where(Person.tenant_id == bench.id)
    async with bench.database.tenant(bench.id) as session:
        await queueing.queue(session, source, channel="email", template_version=version, priority=queueing.BULK)
    await bench.analyze()


async def _mail_size(bench: Tenant, running: Servers) -> int:
    letters = Letters(bench.database, running.settings)
    async with bench.database.tenant(bench.id) as session:
        unfinished = select(MessagePage.id).where(MessagePage.tenant_id == bench.id, MessagePage.finished_at.is_(None))
        page = (await session.scalars(unfinished.limit(1))).one()
    rows = await letters.load(bench.id, page)
    mail = letters.write(bench.id, rows[0])
    if not isinstance(mail, Mail):
        raise StackError(f"the bench's mail cannot be sent: {mail}")
    return len(mail.content)


async def _bare(port: int, size: int) -> float:
    """Return the seconds that the bare client takes."""
    command = [sys.executable, "-m", "bench.bare_mail", str(port), str(RECIPIENTS), str(size), str(CONNECTIONS)]
    child = await asyncio.create_subprocess_exec(*command, cwd=CACHE.parent, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return float(out)


async def _send(bench: Tenant, running: Servers, port: int, report: Report) -> float:
    """Run the senders until nothing is queued; return the seconds from first to last mail."""
    environment = {
        **os.environ,
        "DATABASE_URL": running.settings.database_url,
        "TEMPORAL_ADDRESS": running.settings.temporal_address,
        "SECRET_KEY": running.settings.secret_key.get_secret_value(),
        "SMTP_URL": f"smtp://127.0.0.1:{port}",
        "DATA_DIR": str(running.folder / "data"),
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "sender.process", "--processes", str(SENDERS)]
    child = ChildProcess("senders", command, running.folder / "senders.log", env=environment, cwd=CACHE.parent)
    began = datetime.now(UTC)
    child.start()
    connection = await asyncpg.connect(bench.url)
    memory = 0
    try:
        while await connection.fetchval("SELECT count(*) FROM message_page WHERE finished_at IS NULL"):
            memory = max(memory, _memory(child.pid))
            await asyncio.sleep(0.1)
        cpu = sum(sum(each.cpu_times()[:2]) for each in _family(child.pid))
        row = await connection.fetchrow(
            """
            SELECT count(*) AS sent, extract(epoch FROM max(sent_at) - min(sent_at))::float8 AS seconds
            FROM message WHERE status = 'sent' AND sent_at >= $1
            """,
            began,
        )
    finally:
        await connection.close()
        child.stop()
    if row is None or row["sent"] != RECIPIENTS:
        raise StackError(f"{row and row['sent']} of {RECIPIENTS} were sent")
    seconds: float = row["seconds"]
    report(
        f"{RECIPIENTS / seconds:,.0f} mails/s, {cpu / RECIPIENTS * 1e6:.1f} us of our CPU a mail (start included), "
        f"{memory / 2**20:.0f} MB in {SENDERS} processes and their parent"
    )
    return seconds


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _memory(pid: int) -> int:
    """Return the memory of the senders, what they share counted once."""
    total = 0
    for each in _family(pid):
        with suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total
