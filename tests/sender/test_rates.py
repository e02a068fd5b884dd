"""Senders that share limits: never more than allowed, and what waits for a limit is no attempt."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import func, select, update

from core.actor import CLI
from core.database import Database
from core.settings import Settings
from models import CampaignRun, Message, MessagePage
from sender import limits
from sender.policy import Policy
from services.tenancy import tenants
from tests.eventually import PATIENCE
from tests.factories import texting
from tests.factories.marketing import add_run
from tests.providers import twilio
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

SOON = Policy(poll_seconds=0.05)


class Clocked(MailServer):
    """Notes when each mail came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.times.append(time.monotonic())
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def mail_server_kind() -> type[MailServer]:
    return Clocked


async def _none_open(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def _limit(database: Database, tenant_id: UUID, **limit: object) -> None:
    async with database.tenant(tenant_id) as session:
        stated = [{"channel": "email", "domain": None, **limit}]
        await tenants.update(session, {"send_limits": stated}, by=CLI)


@dataclass(frozen=True, slots=True)
class Grant:
    """So many messages were let go, some time between these."""

    asked: float
    answered: float
    number: int


@pytest.fixture
def grants(monkeypatch: pytest.MonkeyPatch) -> list[Grant]:
    """What the limits let go, in the order of the answers."""
    found: list[Grant] = []
    take = limits.take

    async def noted(*args: Any, **more: Any) -> limits.Taken:  # noqa: ANN401 - passed on as they come
        asked = time.monotonic()
        taken = await take(*args, **more)
        found.append(Grant(asked, time.monotonic(), sum(taken.granted)))
        return taken

    monkeypatch.setattr(limits, "take", noted)
    return found


def _within(grants: Sequence[Grant], times: Sequence[float], *, per_minute: int, burst: int) -> None:
    """Assert that in every window no more was let go than rate and burst allow, and that nothing came before its turn.

    When a message comes depends on how busy the machine is: what was let go before it does not.
    """
    for first in grants:
        for last in grants:
            inside = [each.number for each in grants if each.asked >= first.asked and each.answered <= last.answered]
            assert sum(inside) <= burst + per_minute / 60 * max(0.0, last.answered - first.asked) + 1
    for number, time_of in enumerate(sorted(times), 1):
        assert number <= sum(each.number for each in grants if each.asked <= time_of)


@pytest.mark.parametrize("by", ["tenant", "provider", "run", "domain"])
async def test_two_senders_together_keep_to_a_rate(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, grants: list[Grant], by: str
) -> None:
    per_minute, number = 1_200, 60
    names = [f"p{each}" for each in range(number)]
    settings = smtp_settings
    for half in (names[: number // 2], names[number // 2 :]):
        await queue_for(database, tenant_id, half, key=half[0])
    match by:
        case "tenant":
            await _limit(database, tenant_id, per_minute=per_minute)
        case "domain":
            await _limit(database, tenant_id, domain="example.com", per_minute=per_minute)
        case "provider":
            settings = smtp_settings.model_copy(update={"email_rate_per_minute": per_minute})
        case _:
            async with database.tenant(tenant_id) as session:
                run_id = await add_run(session, rate_per_minute=per_minute)
                pages = update(MessagePage).where(MessagePage.tenant_id == tenant_id)
                await session.execute(pages.values(run_id=run_id))
    began = time.monotonic()
    async with sending(database, settings, policy=SOON), sending(database, settings, policy=SOON):
        await until(lambda: _none_open(database, tenant_id))
    took = time.monotonic() - began
    assert isinstance(mail_server, Clocked)
    assert len(mail_server.received) == number
    _within(grants, mail_server.times, per_minute=per_minute, burst=per_minute // 60)
    assert took >= (number - per_minute // 60) / (per_minute / 60) - 0.01
    async with database.tenant(tenant_id) as session:
        attempts = select(func.sum(MessagePage.attempts)).where(MessagePage.tenant_id == tenant_id)
        assert await session.scalar(attempts) == 0
    assert set((await statuses(database, tenant_id)).values()) == {("sent", None)}


async def test_the_rate_of_a_tenant_s_account_holds_for_all_senders_and_nobody_else(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, grants: list[Grant]
) -> None:
    per_minute, number = 600, 30
    # mail goes by the tenant's own server too, which the rate of the deployment's is nothing to
    settings = smtp_settings.model_copy(update={"email_rate_per_minute": 1})
    secret = {"auth_token": twilio.TOKEN}
    async with twilio.twilio() as server:
        rate = {"rate_per_minute": per_minute}
        await texting.account(database, tenant_id, settings, "twilio", server.config(), secret, **rate)
        await texting.account(database, tenant_id, settings, "smtp", {"url": mail_server.url}, {})
        await texting.reachable(database, tenant_id, {f"p{each}": f"+49151123457{each:02}" for each in range(number)})
        for body in ("One", "Two"):
            await texting.queue(database, tenant_id, "sms", await texting.version(database, tenant_id, "sms", body))
        await queue_for(database, tenant_id, ["ann", "bob", "cyd"])
        began = time.monotonic()
        async with sending(database, settings, policy=SOON), sending(database, settings, policy=SOON):
            await until(lambda: _received(mail_server, 3))
            assert len(server.sent) < 2 * number
            await until(lambda: _none_open(database, tenant_id))
        took = time.monotonic() - began
    assert len({(each["To"], each["Body"]) for each in server.sent}) == len(server.sent) == 2 * number
    _within(grants, server.times, per_minute=per_minute, burst=per_minute // 60)
    assert took >= (2 * number - per_minute // 60) / (per_minute / 60) - 0.01


async def test_a_domain_s_limit_keeps_nobody_else_waiting(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    await queue_for(database, tenant_id, ["ann", "bob", "cyd"])
    async with database.tenant(tenant_id) as session:
        of_cyd = update(Message).where(Message.tenant_id == tenant_id, Message.address == "cyd@example.com")
        await session.execute(of_cyd.values(address="cyd@elsewhere.example"))
    await _limit(database, tenant_id, domain="example.com", per_minute=1)
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: _received(mail_server, 2))
        await until(lambda: _free(database, tenant_id))
    assert "cyd@elsewhere.example" in mail_server.recipients
    assert await open_pages(database, tenant_id) == 1


async def _received(mail_server: MailServer, number: int) -> bool:
    return len(mail_server.received) == number


async def test_a_rate_set_while_it_runs_holds_at_once(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer, halted: asyncio.Event
) -> None:
    await queue_for(database, tenant_id, [f"p{number}" for number in range(200)])
    async with database.tenant(tenant_id) as session:
        run_id = await add_run(session)
        await session.execute(update(MessagePage).where(MessagePage.tenant_id == tenant_id).values(run_id=run_id))
    mail_server.hold = asyncio.Event()
    async with sending(database, smtp_settings, policy=SOON):
        await until(lambda: _waiting(mail_server))
        begun = len(mail_server.received)
        await _rate(database, tenant_id, run_id, 1)
        async with asyncio.timeout(PATIENCE):
            await halted.wait()
        mail_server.hold.set()
        await until(lambda: _free(database, tenant_id))
        assert len(mail_server.received) <= begun + 20 + 1  # those begun, a burst, one over each connection
        await _rate(database, tenant_id, run_id, None)
        await until(lambda: _none_open(database, tenant_id))
    assert len(mail_server.received) == 200


async def _waiting(mail_server: MailServer) -> bool:
    return mail_server.waiting > 0


async def _free(database: Database, tenant_id: UUID) -> bool:
    async with database.tenant(tenant_id) as session:
        owners = select(func.count(MessagePage.lease_owner)).where(MessagePage.tenant_id == tenant_id)
        return not await session.scalar(owners)


async def _rate(database: Database, tenant_id: UUID, run_id: UUID, rate: int | None) -> None:
    async with database.tenant(tenant_id) as session:
        run = update(CampaignRun).where(CampaignRun.tenant_id == tenant_id, CampaignRun.id == run_id)
        await session.execute(run.values(rate_per_minute=rate))
