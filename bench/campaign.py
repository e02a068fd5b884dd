"""A campaign's mails from the queue to the sink, all records kept, against a bare client and against listmonk.

All send to Postfix's `smtp-sink`. The bare client, the ideal, keeps no record and writes no letter. Ours is measured
twice: queued mails by two sender processes, from first to last; and a campaign by its workflow, from the request to
`finished`, by a worker and a sender process beside it.

Where `LISTMONK` says where one runs and with whose token (`http://USER:TOKEN@127.0.0.1:9000`), it is measured in turns
with ours. It must be one that may be changed: the bench sets its SMTP server, concurrency, rate and batch size, imports
subscribers and sends a mail of the same size with the same link and headers. See `bench.listmonk`.
"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg
from sqlalchemy import String, cast, func, literal, null, select

from bench import mailing
from bench.harness import FULL, Ratio, Report, Servers, Tenant, median, tenant
from bench.listmonk import Listmonk
from bench.mailing import Family, Sink
from core.actor import CLI
from integrations.email.port import Mail
from models import CampaignRun, MessagePage, Person, TemplateVersion
from sender.letters import Letters
from services.marketing import queueing
from services.marketing.campaigns import control, definitions
from services.marketing.segments import definitions as segments
from stack.dev import CACHE
from stack.processes import StackError

RECIPIENTS: Final = 100_000 if FULL else 20_000
RUNS: Final = 3
SENDERS: Final = 2
CONNECTIONS: Final = 20
_MEGABYTES: Final = 300
_POLL_SECONDS: Final = 0.02


async def run(running: Servers, report: Report) -> list[Ratio]:
    """Measure, all in turns; see the module."""
    listmonk = Listmonk.of(os.environ.get("LISTMONK"))
    ours: list[float] = []
    whole: list[float] = []
    bare: list[float] = []
    theirs: list[float] = []
    theirs_whole: list[float] = []
    size = 0
    async with tenant(running, "campaign") as bench:
        version = await mailing.template(bench)
        await mailing.people(bench, RECIPIENTS)
        with mailing.sink(running) as sink:
            if listmonk is not None:
                await listmonk.prepare(sink.port, RECIPIENTS)
            for number in range(RUNS):
                await _queue(bench, version, number)
                size = await _mail_size(bench, running)
                bare.append(RECIPIENTS / await _bare(sink.port, size))
                ours.append(RECIPIENTS / await _send(bench, running, sink, report))
                if listmonk is not None:
                    first_to_last, all_of_it = await listmonk.send(sink, report)
                    theirs.append(RECIPIENTS / first_to_last)
                    theirs_whole.append(RECIPIENTS / all_of_it)
            memory = await _wholes(bench, running, sink, version, whole, report)
    report(f"ours {median(ours):,.0f} mails/s, bare client {median(bare):,.0f} mails/s; {size} bytes a mail")
    report(f"ours from start to finished {median(whole):,.0f} mails/s")
    ratios = [
        Ratio("campaign-bare", median(ours) / median(bare), 0.25, at_least=True),
        Ratio("campaign-memory", memory[1] / (_MEGABYTES * 2**20), 1, at_least=False),
        Ratio("campaign-memory-flat", memory[1] / memory[0], 1.25, at_least=False),
    ]
    if listmonk is not None:
        report(f"listmonk {median(theirs):,.0f} mails/s, from start to finished {median(theirs_whole):,.0f} mails/s")
        ratios += [
            Ratio("campaign-listmonk", median(ours) / median(theirs), 2, at_least=True),
            Ratio("campaign-listmonk-whole", median(whole) / median(theirs_whole), 3, at_least=True),
        ]
    return ratios


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


async def _send(bench: Tenant, running: Servers, sink: Sink, report: Report) -> float:
    """Run the senders until nothing is queued; return the seconds from first to last mail."""
    began = datetime.now(UTC)
    connection = await asyncpg.connect(bench.url)
    try:
        with mailing.processes(running, sink.port, ["sender.process", "--processes", str(SENDERS)]) as senders:
            while await connection.fetchval("SELECT count(*) FROM message_page WHERE finished_at IS NULL"):
                senders.look()
                await asyncio.sleep(0.1)
            cpu = senders.cpu()
        row = await connection.fetchrow(
            """
            SELECT count(*) AS sent, extract(epoch FROM max(sent_at) - min(sent_at))::float8 AS seconds
            FROM message WHERE status = 'sent' AND sent_at >= $1
            """,
            began,
        )
    finally:
        await connection.close()
    if row is None or row["sent"] != RECIPIENTS:
        raise StackError(f"{row and row['sent']} of {RECIPIENTS} were sent")
    seconds: float = row["seconds"]
    report(
        f"{RECIPIENTS / seconds:,.0f} mails/s, {cpu / RECIPIENTS * 1e6:.1f} us of our CPU a mail (start included), "
        f"{senders.peak / 2**20:.0f} MB in {SENDERS} processes and their parent"
    )
    return seconds


async def _wholes(
    bench: Tenant, running: Servers, sink: Sink, version: TemplateVersion, rates: list[float], report: Report
) -> tuple[int, int]:
    """Send campaigns by their workflow; return the most memory, after one of a tenth of the size and after all."""
    with mailing.processes(running, sink.port, ["worker"], ["sender.process", "--processes", "1"]) as ours:
        await _whole(bench, version, "tenth", RECIPIENTS // 10, ours)
        small = ours.peak
        for number in range(RUNS):
            before = ours.cpu()
            seconds = await _whole(bench, version, f"all-{number}", RECIPIENTS, ours)
            rates.append(RECIPIENTS / seconds)
            report(
                f"{rates[-1]:,.0f} mails/s from start to finished, {(ours.cpu() - before) / RECIPIENTS * 1e6:.1f} us "
                f"of our CPU a mail, {ours.peak / 2**20:.0f} MB in a worker and a sender"
            )
            await bench.analyze()
    return small, ours.peak


async def _whole(bench: Tenant, version: TemplateVersion, key: str, recipients: int, ours: Family) -> float:
    """Return the seconds from the request to send a campaign until it is finished."""
    campaign = await _campaign(bench, version, key, recipients)
    asked = select(CampaignRun.status, CampaignRun.reason).where(
        CampaignRun.tenant_id == bench.id, CampaignRun.campaign_id == campaign
    )
    began = time.perf_counter()
    async with bench.database.tenant(bench.id) as session:
        await control.send(session, campaign, by=CLI)
    looked = began
    while True:
        async with bench.database.tenant(bench.id) as session:
            status, reason = (await session.execute(asked)).one()
        now = time.perf_counter()
        if status == "finished":
            return now - began
        if status not in {"scheduled", "running"}:
            raise StackError(f"the campaign is {status}: {reason}")
        if now - looked > 0.1:
            ours.look()
            looked = now
        await asyncio.sleep(_POLL_SECONDS)


async def _campaign(bench: Tenant, version: TemplateVersion, key: str, recipients: int) -> UUID:
    async with bench.database.tenant(bench.id) as session:
        segment = await segments.create(
            session, {"key": key, "name": key, "kind": "static", "refresh": "manual"}, by=CLI
        )
        fields = {
            "name": key,
            "channel": "email",
            "audience": {"include": [str(segment.id)], "exclude": []},
            "variants": [{"template_id": str(version.template_id), "share": 1}],
        }
        campaign = await definitions.create(session, fields, by=CLI)
    connection = await asyncpg.connect(bench.url)
    try:
        await connection.execute(
            """
            INSERT INTO segment_member (tenant_id, segment_id, person_id)
            SELECT tenant_id, $2, id FROM person WHERE tenant_id = $1 LIMIT $3
            """,
            bench.id,
            segment.id,
            recipients,
        )
    finally:
        await connection.close()
    await bench.analyze()
    return campaign.id
