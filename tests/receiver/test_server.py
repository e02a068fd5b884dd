"""Conversations in SMTP and LMTP, spoken by the standard library's clients."""

import asyncio
import smtplib
from uuid import UUID, uuid4

import pytest
from opentelemetry.trace import StatusCode
from sqlalchemy import select

from core import tracing
from core.database import Database
from core.tokens import Tokens
from models import Event
from receiver.inbox import Answer, Inbox
from tests.receiver.support import address_of, bounce, listening, logged, reply, sent_to, status
from tests.tracing import parent_of, traced, traceparent

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
OK, NO_SUCH, LATER, TOO_LONG = 250, 550, 451, 552


class LmtpClient:
    """Reads an answer for each recipient, as RFC 2033 has it, and sees that none is left over."""

    def __init__(self, port: int) -> None:
        self._smtp = smtplib.LMTP("127.0.0.1", port, timeout=20)
        self._smtp.ehlo("mx.example")

    def say(self, line: str) -> int:
        return self._smtp.docmd(line)[0]

    def data(self, raw: bytes, answers: int) -> list[int]:
        assert self.say("DATA") == 354
        self._smtp.send(raw + b".\r\n")
        codes = [self._smtp.getreply()[0] for _ in range(answers)]
        assert self.say("NOOP") == 250
        assert self._smtp.docmd("HELP")[1].startswith(b"Supported commands")
        return codes

    def close(self) -> None:
        self._smtp.close()


def smtp(port: int, recipients: list[str], raw: bytes, sender: str = "") -> tuple[list[int], int | None]:
    """Hand a mail over; the answers to each recipient, and to the mail."""
    client = smtplib.SMTP("127.0.0.1", port, timeout=20)
    try:
        client.ehlo("mx.example")
        code, _ = client.mail(sender, [f"SIZE={len(raw)}"])
        if code != 250:
            return [], code
        codes = [client.rcpt(each)[0] for each in recipients]
        return codes, client.data(raw)[0] if 250 in codes else None
    finally:
        client.close()


def lmtp(port: int, recipients: list[str], raw: bytes, sender: str = "") -> tuple[list[int], list[int]]:
    client = LmtpClient(port)
    try:
        assert client.say(f"MAIL FROM:<{sender}>") == 250
        codes = [client.say(f"RCPT TO:<{each}>") for each in recipients]
        return codes, client.data(raw, codes.count(250))
    finally:
        client.close()


async def test_smtp_takes_a_bounce_as_often_as_it_comes(database: Database, tenant_id: UUID, tokens: Tokens) -> None:
    message_id = await sent_to(database, tenant_id, "ann")
    address = address_of(tokens, tenant_id, message_id)
    async with listening(Inbox(database, tokens), lmtp=False) as (_, port):
        for _ in range(2):
            said = await asyncio.to_thread(smtp, port, [address.upper(), "x@y.example"], bounce("ann@example.com"))
            assert said == ([OK, NO_SUCH], OK)
            assert await status(database, tenant_id, message_id) == "bounced"


async def test_a_reply_is_the_given_tenants_and_kept_once(database: Database, tenant_id: UUID, tokens: Tokens) -> None:
    async with listening(Inbox(database, tokens, tenant_id), lmtp=False) as (_, port):
        for _ in range(2):
            said = await asyncio.to_thread(
                smtp, port, ["us@shop.example", "you@shop.example"], reply(), "ann@x.example"
            )
            assert said == ([OK, OK], OK)
            assert await logged(database, tenant_id) == 1
        # Nobody's letter (the envelope's sender is empty) is an automatic one.
        assert await asyncio.to_thread(smtp, port, ["us@shop.example"], reply("<r2@example.com>")) == ([OK], OK)
        assert await logged(database, tenant_id) == 1


async def test_lmtp_answers_for_each_recipient(database: Database, tenant_id: UUID, tokens: Tokens) -> None:
    message_id = await sent_to(database, tenant_id, "ann")
    known = address_of(tokens, tenant_id, message_id)
    gone = address_of(tokens, uuid4(), message_id)
    async with listening(Inbox(database, tokens), lmtp=True) as (_, port):
        said = await asyncio.to_thread(lmtp, port, [gone, "x@y.example", known], bounce("ann@example.com"))
    assert said == ([OK, NO_SUCH, OK], [NO_SUCH, OK])
    assert await status(database, tenant_id, message_id) == "bounced"


class Failing(Inbox):
    """Cannot take mail for addresses that begin with `later`."""

    async def take(self, raw: bytes, recipient: str | None) -> Answer:
        return Answer.LATER if (recipient or "").startswith("later") else await super().take(raw, recipient)


async def test_one_recipient_that_fails_has_no_other_repeated(
    database: Database, tenant_id: UUID, tokens: Tokens
) -> None:
    inbox = Failing(database, tokens, tenant_id)
    recipients = ["later@shop.example", "us@shop.example"]
    async with listening(inbox, lmtp=True) as (_, port):
        assert await asyncio.to_thread(lmtp, port, recipients, reply(), "a@x.example") == ([OK, OK], [LATER, OK])
    assert await logged(database, tenant_id) == 1
    async with listening(inbox, lmtp=False) as (_, port):  # one answer for all: come again
        assert await asyncio.to_thread(smtp, port, recipients, reply(), "a@x.example") == ([OK, OK], LATER)


@pytest.mark.parametrize("is_lmtp", [False, True])
async def test_a_database_that_is_down_has_mail_come_again(tokens: Tokens, *, is_lmtp: bool) -> None:
    down = Database(NOWHERE)
    address = address_of(tokens, uuid4(), uuid4())
    async with listening(Inbox(down, tokens), lmtp=is_lmtp) as (_, port):
        if is_lmtp:
            assert await asyncio.to_thread(lmtp, port, [address] * 2, reply()) == ([OK] * 2, [LATER] * 2)
        else:
            assert await asyncio.to_thread(smtp, port, [address], reply()) == ([OK], LATER)
    await down.close()


async def test_what_is_too_long_or_no_mail_is_refused(database: Database, tenant_id: UUID, tokens: Tokens) -> None:
    inbox = Inbox(database, tokens, tenant_id)
    long = reply() + b"x" * 70 + b"\r\n" * 30
    async with listening(inbox, lmtp=False, max_bytes=120) as (_, port):
        assert await asyncio.to_thread(smtp, port, ["us@shop.example"], long) == ([], TOO_LONG)
        assert await asyncio.to_thread(smtp, port, ["us@shop.example"], b"Hello\r\n") == ([OK], 554)
    async with listening(inbox, lmtp=True, max_bytes=120) as (_, port):
        told = await asyncio.to_thread(lmtp, port, ["us@shop.example", "you@shop.example"], long)
        assert told == ([OK, OK], [TOO_LONG, TOO_LONG])
    async with listening(inbox, lmtp=False) as (_, port):
        wide = reply() + b"x" * 5000 + b"\r\n"  # longer a line than standards allow
        assert await asyncio.to_thread(smtp, port, ["us@shop.example"] * 101, wide) == ([OK] * 100 + [452], OK)


class Slow(Inbox):
    """Takes mail once it is let."""

    started = asyncio.Event()
    let = asyncio.Event()

    async def take(self, raw: bytes, recipient: str | None) -> Answer:
        self.started.set()
        await self.let.wait()
        return await super().take(raw, recipient)


async def test_a_server_that_stops_finishes_what_is_handed_over(
    database: Database, tenant_id: UUID, tokens: Tokens
) -> None:
    inbox = Slow(database, tokens, tenant_id)
    async with listening(inbox, lmtp=False) as (server, port):
        idle = await asyncio.to_thread(smtplib.SMTP, "127.0.0.1", port, timeout=20)
        handing = asyncio.create_task(asyncio.to_thread(smtp, port, ["us@shop.example"], reply(), "a@x.example"))
        await inbox.started.wait()
        stopping = asyncio.create_task(server.stop())
        assert (await asyncio.to_thread(idle.getreply))[0] == 421
        assert not stopping.done()
        inbox.let.set()
        assert await handing == ([OK], OK)
        await asyncio.wait_for(stopping, 20)
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    assert await logged(database, tenant_id) == 1


async def test_a_mail_that_is_taken_begins_a_trace(database: Database, tenant_id: UUID, tokens: Tokens) -> None:
    message_id = await sent_to(database, tenant_id, "ann")
    address = address_of(tokens, tenant_id, message_id)
    with traced() as spans:
        assert await Inbox(database, tokens).take(bounce("ann@example.com"), address) is Answer.TAKEN
        assert await Inbox(database, tokens).take(b"no mail", None) is Answer.NO_MAIL
        assert await Inbox(Database(NOWHERE), tokens, tenant_id).take(reply(), None) is Answer.LATER
    taken, refused, later = (span for span in spans.all if span.name == "take mail")
    assert taken.parent is None
    assert dict(taken.attributes or {}) == {tracing.TENANT: str(tenant_id), tracing.ANSWER: "taken"}
    (changed,) = (span for span in spans.all if span.name == "UPDATE message")
    assert parent_of(changed) == traceparent(taken)
    assert (refused.attributes or {})[tracing.ANSWER] == "no_mail"
    assert (refused.status.status_code, later.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    told = str([(span.name, dict(span.attributes or {})) for span in spans.all])
    assert "ann@" not in told
    async with database.tenant(tenant_id) as session:
        kept = await session.scalar(select(Event.trace).where(Event.tenant_id == tenant_id, Event.trace.is_not(None)))
    assert kept is not None
    assert kept[:35] == traceparent(taken)[:35], "whoever reads the event goes on in that trace"
