"""`kill -9` of a real sender process, and what the next one makes of it."""

import asyncio
import random
import shutil
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from core.database import Database
from core.ids import new_id
from core.settings import Settings
from integrations.email.port import Delivery, Outcome
from models import MessagePage
from sender.journal import Fate, Journal
from sender.loop import Sender
from sender.policy import Policy
from tests.factories import texting
from tests.providers import mastodon, twilio
from tests.sender.support import MailServer, open_pages, process, queue_for, sending, statuses, until

CONNECTIONS = 20
NAMES = [f"p{number}" for number in range(700)]


async def test_after_kill_nothing_is_sent_twice_and_nothing_is_missing(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    await queue_for(database, tenant_id, NAMES)
    for _ in range(3):
        enough = len(mail_server.received) + random.randint(30, 150)

        async def received(count: int = enough) -> bool:
            return len(mail_server.received) >= count

        async with process(smtp_settings) as running:
            await until(received, seconds=30)
            running.send_signal(signal.SIGKILL)
    async with process(smtp_settings) as running:
        await until(lambda: _none_open(database, tenant_id), seconds=30)
        running.send_signal(signal.SIGTERM)
        assert await running.wait() == 0
    found = await statuses(database, tenant_id)
    in_doubt = {name for name, (status, _) in found.items() if status == "in_doubt"}
    assert set(Counter(status for status, _ in found.values())) <= {"sent", "in_doubt"}
    assert len(in_doubt) <= 3 * CONNECTIONS
    arrivals = Counter(recipient.removesuffix("@example.com") for recipient in mail_server.recipients)
    assert max(arrivals.values()) == 1
    assert {name for name, (status, _) in found.items() if status == "sent"} == set(arrivals) - in_doubt

    left = list((smtp_settings.data_dir / "sender").iterdir())

    async def removed() -> bool:
        return not any(journal.exists() for journal in left)

    async with sending(database, smtp_settings):
        await until(removed)
    assert list((smtp_settings.data_dir / "sender").iterdir()) == []


async def test_mail_whose_answer_a_killed_sender_never_saw_is_held_and_shown(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.hold = asyncio.Event()
    await queue_for(database, tenant_id, NAMES[:50])

    async def all_connections_wait() -> bool:
        return mail_server.waiting == CONNECTIONS

    async with process(smtp_settings) as running:
        await until(all_connections_wait, seconds=30)
        running.send_signal(signal.SIGKILL)
        await running.wait()
    held = {recipient.removesuffix("@example.com") for recipient in mail_server.recipients}
    mail_server.hold.set()
    mail_server.hold = None
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    found = await statuses(database, tenant_id)
    assert {name for name, (status, _) in found.items() if status == "in_doubt"} == held
    assert found[next(iter(held))] == ("in_doubt", "the sender died between the mail and its answer")
    assert len(mail_server.recipients) == len(set(mail_server.recipients)) == 50


async def test_files_are_written_again_after_kill(database: Database, tenant_id: UUID, smtp_settings: Settings) -> None:
    """For a channel where a repeat is harmless nothing is in doubt."""
    settings = smtp_settings.model_copy(update={"smtp_url": None})
    await queue_for(database, tenant_id, NAMES)

    async def some_written() -> bool:
        return settings.mail_dir.exists() and sum(1 for _ in settings.mail_dir.iterdir()) > 60

    async with process(settings) as running:
        await until(some_written, seconds=30)
        running.send_signal(signal.SIGKILL)
    async with sending(database, settings):
        await until(lambda: _none_open(database, tenant_id), seconds=30)
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}
    assert len(list(settings.mail_dir.glob("*.eml"))) == len(NAMES)


async def test_a_text_message_whose_answer_a_killed_sender_never_saw_is_not_sent_again(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    numbers = {f"p{number}": f"+49151123456{number:02}" for number in range(40)}
    async with twilio.twilio() as server:
        server.silent.update(list(numbers.values())[:3])
        secret = {"auth_token": twilio.TOKEN}
        await texting.account(database, tenant_id, smtp_settings, "twilio", server.config(), secret)
        await texting.reachable(database, tenant_id, numbers)
        await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", "Hi"))

        async def the_silent_wait() -> bool:
            return server.silent <= {each["To"] for each in server.sent}

        async with process(smtp_settings) as running:
            await until(the_silent_wait, seconds=30)
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with sending(database, smtp_settings):
            await until(lambda: _none_open(database, tenant_id))
        arrivals = Counter(each["To"] for each in server.sent)
    told = await texting.told(database, tenant_id)
    in_doubt = {numbers[name] for name, (status, _, _) in told.items() if status == "in_doubt"}
    assert set(Counter(status for status, _, _ in told.values())) == {"sent", "in_doubt"}
    assert server.silent <= in_doubt
    assert max(arrivals.values()) == 1
    assert set(numbers.values()) - in_doubt <= set(arrivals)


async def test_a_post_that_a_killed_sender_made_is_tried_again_and_stands_once(
    database: Database, tenant_id: UUID, smtp_settings: Settings
) -> None:
    async with mastodon.mastodon() as server:
        server.hold = asyncio.Event()
        secret = {"access_token": mastodon.TOKEN}
        await texting.account(database, tenant_id, smtp_settings, "mastodon", {"base_url": server.url}, secret)
        message_id = await texting.queue_post(
            database, tenant_id, await texting.version(database, tenant_id, "social", "Hi")
        )

        async def posted() -> bool:
            return bool(server.posts)

        async with process(smtp_settings) as running:
            await until(posted, seconds=30)
            running.send_signal(signal.SIGKILL)
            await running.wait()
        server.hold.set()
        async with sending(database, smtp_settings):
            await until(lambda: _none_open(database, tenant_id))
        assert list(server.posts) == [str(message_id)]
    assert (await texting.told(database, tenant_id))["None"][:2] == ("sent", None)


@pytest.mark.parametrize("loss", ["another machine", "a restart of the machine"])
async def test_when_the_journal_is_lost_the_page_is_held(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, loss: str
) -> None:
    mail_server.hold = asyncio.Event()
    await queue_for(database, tenant_id, NAMES[:50])
    async with process(smtp_settings) as running:
        await until(lambda: _received(mail_server, 1), seconds=30)
        running.send_signal(signal.SIGKILL)
    mail_server.hold.set()
    mail_server.hold = None
    before = len(mail_server.received)
    (journal,) = (smtp_settings.data_dir / "sender").iterdir()
    if loss == "another machine":
        shutil.rmtree(journal)
        async with database.tenant(tenant_id) as session:
            pages = update(MessagePage).where(MessagePage.tenant_id == tenant_id)
            await session.execute(pages.values(leased_until=func.now()))
    else:
        (journal / "lock").write_text("another boot")
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert set((await statuses(database, tenant_id)).values()) == {("in_doubt", "the sender was lost with its journal")}
    assert len(mail_server.received) == before


async def test_a_slow_sender_keeps_its_page(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    """Its lease ran out, but it lives on this machine: nobody sends beside it."""
    mail_server.hold = asyncio.Event()
    await queue_for(database, tenant_id, NAMES[:30])
    impatient = Policy(poll_seconds=0.02, lease=timedelta(seconds=0.1), margin=timedelta())
    async with process(smtp_settings) as running:
        await until(lambda: _received(mail_server, CONNECTIONS), seconds=30)
        running.send_signal(signal.SIGSTOP)
        async with database.tenant(tenant_id) as session:
            pages = update(MessagePage).where(MessagePage.tenant_id == tenant_id)
            await session.execute(pages.values(leased_until=func.now()))

        async def asked_for() -> bool:
            async with database.tenant(tenant_id) as session:
                lease = select(MessagePage.leased_until > func.now()).where(MessagePage.tenant_id == tenant_id)
                return bool(await session.scalar(lease))

        async with sending(database, smtp_settings, policy=impatient):
            await until(asked_for)
        assert len(mail_server.received) == CONNECTIONS
        mail_server.hold.set()
        mail_server.hold = None
        running.send_signal(signal.SIGCONT)
        await until(lambda: _none_open(database, tenant_id), seconds=30)
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}
    assert len(mail_server.recipients) == len(set(mail_server.recipients)) == 30


async def test_a_stopped_sender_finishes_its_mails_and_leaves_the_rest(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.hold = asyncio.Event()
    await queue_for(database, tenant_id, NAMES[:100])
    async with process(smtp_settings) as running:
        await until(lambda: _received(mail_server, CONNECTIONS), seconds=30)
        running.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)  # for the signal to be seen
        mail_server.hold.set()
        assert await running.wait() == 0
    found = Counter(status for status, _ in (await statuses(database, tenant_id)).values())
    assert found == {"sent": CONNECTIONS, "queued": 100 - CONNECTIONS}
    async with database.tenant(tenant_id) as session:
        owner = select(MessagePage.lease_owner).where(MessagePage.tenant_id == tenant_id)
        assert await session.scalar(owner) is None


async def test_a_cancelled_sender_leaves_a_journal_like_a_killed_one(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.hold = asyncio.Event()
    await queue_for(database, tenant_id, NAMES[:50])
    running = asyncio.create_task(Sender(database, smtp_settings).run(asyncio.Event()))
    await until(lambda: _received(mail_server, CONNECTIONS))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    held = {recipient.removesuffix("@example.com") for recipient in mail_server.recipients}
    mail_server.hold.set()
    mail_server.hold = None
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    found = await statuses(database, tenant_id)
    assert {name for name, (status, _) in found.items() if status == "in_doubt"} == held
    assert len(mail_server.recipients) == len(set(mail_server.recipients)) == 50


async def test_a_line_begun_and_not_finished_is_no_news(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        page, answered, begun, half = (new_id() for _ in range(4))
        file = journal.page(page)
        file.started(answered)
        now = datetime.now(UTC)
        file.finished(Delivery(answered, Outcome.SENT, now, provider_id="q1"))
        file.started(begun)
        path = tmp_path / journal.name / page.hex
        with path.open("a") as tail:
            tail.write(f"> {half}"[:20])
        record = journal.read(journal.owner, page)
        assert record.begun == {begun}
        assert record.finished == {answered: Delivery(answered, Outcome.SENT, now, provider_id="q1")}
        assert journal.fate("elsewhere:0") is Fate.LOST


async def test_a_line_whose_middle_was_not_yet_written_is_no_news(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        page, begun, half = (new_id() for _ in range(3))
        journal.page(page).started(begun)
        path = tmp_path / journal.name / page.hex
        text = path.read_bytes().rstrip(b"\0")
        path.write_bytes(text + f"> {half}\n".encode().replace(b"-", b"\0") + bytes(100))
        assert journal.read(journal.owner, page).begun == {begun}


async def test_a_journal_goes_on_where_it_was_left_however_much_there_is_to_tell(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with Journal(tmp_path) as journal:
        page, first = new_id(), new_id()
        file = journal.page(page)
        file.started(first)
        file.close(recorded=False)
        mails = [new_id() for _ in range(300)]
        file = journal.page(page)
        for each in mails:
            file.started(each)
            file.finished(Delivery(each, Outcome.FAILED, now, reason="no " * 300))
        record = journal.read(journal.owner, page)
        assert (record.begun, set(record.finished)) == ({first}, set(mails))


async def _received(server: MailServer, count: int) -> bool:
    return len(server.received) >= count


async def _none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0
