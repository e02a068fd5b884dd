"""Providers that nobody answers at: what goes by others is not held up, and nothing of theirs is lost or given up."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, update

from core.database import Database
from core.settings import Settings
from integrations.email.port import UnreachableError
from models import MessagePage
from sender.policy import Policy
from sender.ways import Way
from services.tenancy import tenants
from tests.factories import texting
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

SOON = Policy(pauses=(timedelta(seconds=0.1),), unreachable_pause=timedelta(seconds=0.1), poll_seconds=0.05)
PAGES = 9
"""More than a sender works on at once."""


class Nobody:
    """Where a mail server should be: takes connections, and closes them, or says nothing once it is `silent`."""

    def __init__(self) -> None:
        self.silent = False
        self.taken = 0
        self.url = ""
        self._open: list[asyncio.StreamWriter] = []

    async def accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        self._open.append(writer)
        if not self.silent:
            self.hang_up()

    def hang_up(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        self.silent = False


@pytest.fixture
async def nobody() -> AsyncGenerator[Nobody]:
    found = Nobody()
    listener = await asyncio.start_server(found.accept, "127.0.0.1", 0)
    found.url = f"smtp://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield found
    found.hang_up()
    listener.close()


async def many_pages(database: Database, tenant_id: UUID) -> None:
    for number in range(PAGES):
        await queue_for(database, tenant_id, [f"quiet{number}"], key=f"news{number}")


async def new_tenant(database: Database, name: str) -> UUID:
    async with database.system() as session:
        return (await tenants.create(session, name, name)).id


async def none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def some_unreachable(database: Database, tenant_id: UUID) -> bool:
    reasons = [reason or "" for _, reason in (await statuses(database, tenant_id)).values()]
    return any(reason.startswith("unreachable") for reason in reasons)


async def _taken(nobody: Nobody, count: int) -> bool:
    return nobody.taken >= count


@pytest.mark.parametrize("whose", ["deployment", "tenant"])
async def test_a_server_that_says_nothing_is_tried_by_one_page_and_holds_up_nobody_else(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, nobody: Nobody, whose: str
) -> None:
    """An answer is awaited for a minute, and the dead server has more pages than are worked on at once."""
    await many_pages(database, tenant_id)
    other = await new_tenant(database, "other")
    theirs = {"deployment": nobody.url, "tenant": mail_server.url}[whose]
    if whose == "deployment":
        await texting.account(database, other, smtp_settings, "smtp", {"url": mail_server.url}, {})
    else:
        await texting.account(database, tenant_id, smtp_settings, "smtp", {"url": nobody.url}, {})
    settings = smtp_settings.model_copy(update={"smtp_url": theirs})
    async with sending(database, settings, policy=SOON):
        await until(lambda: some_unreachable(database, tenant_id))
        await until(lambda: _taken(nobody, SOON.pages + 2))  # all that were begun before anybody knew are over
        nobody.silent = True
        before = nobody.taken

        await until(lambda: _taken(nobody, before + 1))
        taken = nobody.taken
        for number in range(4):
            await queue_for(database, other, [f"eve{number}"], key=f"own{number}")
            await until(lambda: none_open(database, other))
        assert nobody.taken == taken
        assert {status for status, _ in (await statuses(database, tenant_id)).values()} == {"queued"}
        nobody.hang_up()
    assert len(mail_server.received) == 4


async def test_mail_queued_a_month_ahead_is_not_given_up_at_its_first_refusal(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    mail_server.refuse["grey"] = ["451 4.7.1 greylisted"]
    await queue_for(database, tenant_id, ["grey", "ann"])
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(MessagePage)
            .where(MessagePage.tenant_id == tenant_id)
            .values(created_at=func.now() - timedelta(days=30))
        )
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: none_open(database, tenant_id))
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}


def test_mail_is_given_up_after_a_day_of_tries() -> None:
    policy = Policy()
    tries = next(number for number in range(100) if policy.gives_up(number))
    waited = sum((policy.pause(each) for each in range(tries)), timedelta())
    assert timedelta(hours=24) <= waited < timedelta(hours=28)
    assert not policy.gives_up(tries - 1)


def test_a_way_is_tried_less_and_less_often_and_never_more_often_than_a_try_takes() -> None:
    now = 1000.0
    way = Way("email", 2.0, clock=lambda: now)
    assert way.wait() == 0
    waits: list[float] = []
    for _ in range(6):
        began = way.begin()
        way.lost(began, UnreachableError("nobody"))
        waits.append(way.wait())
        now += way.wait()
        assert way.wait() == 0
    assert waits == [2, 4, 8, 16, 16, 16]
    began = way.begin()
    assert way.wait() > 0, "another page waits while one tries"
    now += 60
    way.lost(began, UnreachableError("nobody"))
    assert way.wait() == 60
    now += 60
    way.begin()
    way.ended(answered=False)
    assert way.wait() == 0, "a page of which nothing was to be sent proves nothing, and is no reason to wait"
    way.begin()
    way.ended(answered=True)
    way.lost(way.begin(), UnreachableError("nobody"))
    assert way.wait() == 2
