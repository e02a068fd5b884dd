"""Pages that may not go yet, or not at all: paused, cancelled, late, waiting for a winner or for somebody's clock."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from core.settings import Settings
from models import CampaignRun, Message, MessagePage, Person
from sender.policy import Policy
from services.marketing import holding, queueing
from services.tenancy import tenants
from tests.eventually import PATIENCE
from tests.factories.marketing import add_run
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

SOON = Policy(poll_seconds=0.02)


async def _of_run(database: Database, tenant_id: UUID, **values: Any) -> UUID:  # noqa: ANN401 - columns of any type
    """Make all that is queued a run's; return the run's id."""
    async with database.tenant(tenant_id) as session:
        run_id = await add_run(session)
        await session.execute(
            update(MessagePage).where(MessagePage.tenant_id == tenant_id).values(run_id=run_id, **values)
        )
        return run_id


async def _status(database: Database, tenant_id: UUID, run_id: UUID, status: str) -> None:
    """Change the run's status and hold or let go its pages, as a campaign does."""
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(CampaignRun)
            .where(CampaignRun.tenant_id == tenant_id, CampaignRun.id == run_id)
            .values(status=status)
        )
        verb = {"paused": holding.pause, "running": holding.resume, "cancelled": holding.cancel}[status]
        await verb(session, run_id)


async def _holds(database: Database, tenant_id: UUID) -> set[str | None]:
    async with database.tenant(tenant_id) as session:
        return set(await session.scalars(select(MessagePage.held_for).where(MessagePage.tenant_id == tenant_id)))


async def _none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def _count(database: Database, tenant_id: UUID, status: str) -> int:
    return [found for found, _ in (await statuses(database, tenant_id)).values()].count(status)


async def test_a_page_being_sent_stops_when_it_is_paused_and_goes_on_exactly_there(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, halted: asyncio.Event
) -> None:
    """Resume restarted from the top (listmonk#2313): two thirds got several copies, a third none."""
    names = [f"p{number}" for number in range(300)]
    await queue_for(database, tenant_id, names)
    run_id = await _of_run(database, tenant_id)
    mail_server.hold = asyncio.Event()
    async with sending(database, smtp_settings):
        await until(lambda: _waiting(mail_server))
        await _status(database, tenant_id, run_id, "paused")
        await _let_through(database, tenant_id, mail_server, halted)
        sent = await _count(database, tenant_id, "sent")
        assert 0 < sent < 300
        assert len(mail_server.received) == sent
        assert await open_pages(database, tenant_id) == 1
        await _status(database, tenant_id, run_id, "running")
        await until(lambda: _none_open(database, tenant_id))
    assert mail_server.recipients == sorted(f"{name}@example.com" for name in names)


async def _waiting(mail_server: MailServer) -> bool:
    return mail_server.waiting > 0


async def _let_through(database: Database, tenant_id: UUID, mail_server: MailServer, halted: asyncio.Event) -> None:
    """Have the mails begun answered once the sender has heard that it is to stop, and return when the page is free."""
    async with asyncio.timeout(PATIENCE):
        await halted.wait()
    assert mail_server.hold is not None
    mail_server.hold.set()
    await until(lambda: _free(database, tenant_id))


async def _free(database: Database, tenant_id: UUID) -> bool:
    async with database.tenant(tenant_id) as session:
        owners = select(func.count(MessagePage.lease_owner)).where(MessagePage.tenant_id == tenant_id)
        return not await session.scalar(owners)


async def test_a_cancelled_run_sends_no_further_mail_and_says_so_of_each(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, halted: asyncio.Event
) -> None:
    names = [f"p{number}" for number in range(300)]
    await queue_for(database, tenant_id, names)
    run_id = await _of_run(database, tenant_id)
    mail_server.hold = asyncio.Event()
    async with sending(database, smtp_settings):
        await until(lambda: _waiting(mail_server))
        await _status(database, tenant_id, run_id, "cancelled")
        await _let_through(database, tenant_id, mail_server, halted)
        await until(lambda: _none_open(database, tenant_id))
    found = list((await statuses(database, tenant_id)).values())
    sent = found.count(("sent", None))
    assert 0 < sent < 300
    assert found.count(("excluded", "cancelled")) == 300 - sent
    assert len(mail_server.received) == sent


async def test_what_is_cancelled_before_it_is_sent_is_excluded_though_it_is_due_later(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    await queue_for(database, tenant_id, ["ann"])
    run_id = await _of_run(database, tenant_id, ready_at=datetime.now(UTC) + timedelta(days=3), held_for="winner")
    await _status(database, tenant_id, run_id, "cancelled")
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert await statuses(database, tenant_id) == {"ann": ("excluded", "cancelled")}
    assert mail_server.received == []


async def test_a_pause_lets_nothing_go_that_waits_for_the_winner(database: Database, tenant_id: UUID) -> None:
    await queue_for(database, tenant_id, ["ann"])
    run_id = await _of_run(database, tenant_id, held_for="winner")
    for status in ("paused", "running"):
        await _status(database, tenant_id, run_id, status)
        assert await _holds(database, tenant_id) == {"winner"}


async def test_what_was_not_sent_in_time_is_not_sent(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    """A long overdue campaign fires on recovery (listmonk#1801)."""
    await queue_for(database, tenant_id, ["ann"])
    await _of_run(database, tenant_id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    assert await statuses(database, tenant_id) == {"ann": ("excluded", "too_late")}
    assert mail_server.received == []


async def _page(database: Database, tenant_id: UUID) -> MessagePage:
    async with database.tenant(tenant_id) as session:
        page = await session.scalar(select(MessagePage).where(MessagePage.tenant_id == tenant_id))
        assert page is not None
        return page


async def _zone(database: Database, tenant_id: UUID, name: str, zone: str) -> None:
    async with database.tenant(tenant_id) as session:
        of = update(Person).where(Person.tenant_id == tenant_id, Person.first_name == name)
        await session.execute(of.values(time_zone=zone))


async def test_who_does_not_have_the_hour_yet_waits_for_it_also_in_a_zone_moved_to_meanwhile(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    await queue_for(database, tenant_id, ["here", "west"])
    await _zone(database, tenant_id, "west", "Etc/GMT+5")
    clock = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(minutes=5)
    await _of_run(database, tenant_id, local_at=clock)
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: _received(mail_server, 1))
        await until(lambda: _put_off(database, tenant_id))
        page = await _page(database, tenant_id)
        assert page.ready_at == clock.replace(tzinfo=UTC) + timedelta(hours=5)
        assert (page.attempts, mail_server.recipients) == (0, ["here@example.com"])
        await _zone(database, tenant_id, "west", "Etc/GMT+6")
        await _come_again(database, tenant_id)
        await until(lambda: _put_off(database, tenant_id))
        assert (await _page(database, tenant_id)).ready_at == clock.replace(tzinfo=UTC) + timedelta(hours=6)
        await _zone(database, tenant_id, "west", "UTC")
        await _come_again(database, tenant_id)
        await until(lambda: _none_open(database, tenant_id))
    assert mail_server.recipients == ["here@example.com", "west@example.com"]


async def _received(mail_server: MailServer, number: int) -> bool:
    return len(mail_server.received) == number


async def _put_off(database: Database, tenant_id: UUID) -> bool:
    page = await _page(database, tenant_id)
    return page.lease_owner is None and page.ready_at > datetime.now(UTC)


async def _come_again(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        now = {"ready_at": func.now()}
        await session.execute(update(MessagePage).where(MessagePage.tenant_id == tenant_id).values(now))


@pytest.mark.parametrize("purpose", ["marketing", "transactional"])
async def test_quiet_hours_are_asked_again_where_it_is_sent(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, purpose: str
) -> None:
    await queue_for(database, tenant_id, ["here", "there"], purpose=purpose)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    hours = {"from": f"{now - timedelta(hours=1):%H:%M}", "to": f"{now + timedelta(hours=2):%H:%M}"}
    async with database.tenant(tenant_id) as session:
        await tenants.update(session, {"quiet_hours": hours, "time_zone": "UTC"}, by=CLI)
    await _zone(database, tenant_id, "there", "Etc/GMT-9")
    async with sending(database, smtp_settings, policy=SOON):
        if purpose == "transactional":
            await until(lambda: _none_open(database, tenant_id))
        else:
            await until(lambda: _received(mail_server, 1))
            await until(lambda: _put_off(database, tenant_id))
            assert (await _page(database, tenant_id)).ready_at == now + timedelta(hours=2)
    expected = ["there@example.com"] if purpose == "marketing" else ["here@example.com", "there@example.com"]
    assert mail_server.recipients == expected
    assert ZoneInfo("Etc/GMT-9").utcoffset(now) == timedelta(hours=9)


async def test_a_journey_s_message_queued_meanwhile_takes_the_place_of_bulk(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    """Two of bulk are allowed beside each other; with the journey's one the second is too many."""
    await queue_for(database, tenant_id, ["ann"])
    person = await _one(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        caps = [{"channel": "email", "messages": 2, "days": 1}]
        await tenants.update(session, {"frequency_caps": caps}, by=CLI)
        first = await session.scalar(select(Message).where(Message.tenant_id == tenant_id))
        assert first is not None
        for key, priority in (("second", queueing.BULK), ("journey", queueing.JOURNEY)):
            page = MessagePage(tenant_id=tenant_id, id=new_id(), channel="email", priority=priority, size=1)
            session.add(page)
            session.add(
                Message(
                    tenant_id=tenant_id,
                    id=new_id(),
                    person_id=person,
                    channel="email",
                    address="ann@example.com",
                    template_version_id=first.template_version_id,
                    dedupe_key=key,
                    page_id=page.id,
                    priority=priority,
                )
            )
    async with sending(database, smtp_settings):
        await until(lambda: _none_open(database, tenant_id))
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Message.dedupe_key, Message.status, Message.reason).where(Message.tenant_id == tenant_id)
        )
        found = {key.partition(":")[0]: (status, reason) for key, status, reason in rows}
    assert found == {"campaign": ("sent", None), "journey": ("sent", None), "second": ("excluded", "capped")}


async def _one(database: Database, tenant_id: UUID) -> UUID:
    async with database.tenant(tenant_id) as session:
        person = await session.scalar(select(Person.id).where(Person.tenant_id == tenant_id))
        assert person is not None
        return person
