"""Mail as servers send it, and as nobody should."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from core.actor import CLI
from core.database import Database
from core.settings import Settings
from core.tokens import BadTokenError, MessageRef, Tokens
from models import Communication, Message
from services.marketing import incoming_mail, mail_reports
from services.marketing.incoming_mail import Taken
from tests.sender.support import queue_for

BLOCK = "Final-Recipient: rfc822; {address}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {said}\n"


def dsn(*blocks: str, to: str = "bounces@shop.example", returned: str = "") -> bytes:
    """A report of delivery as RFC 3464 shows it."""
    text = f"""From: MAILER-DAEMON@mx.example
To: {to}
Subject: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Sorry.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

{chr(10).join(blocks)}
--b
Content-Type: text/rfc822-headers

{returned}
--b--
"""
    return text.replace("\n", "\r\n").encode()


def arf(returned: str, kind: str = "abuse") -> bytes:
    """A complaint as RFC 5965 shows it."""
    return f"""From: fbl@mx.example
To: fbl@shop.example
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

Spam.

--b
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: x/1
Version: 1

--b
Content-Type: message/rfc822

{returned}
--b--
""".encode()


def block(address: str, action: str = "failed", status: str = "5.1.1", said: str = "550 no such user") -> str:
    return BLOCK.format(address=address, action=action, status=status, said=said)


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings.secret_key.get_secret_value())


@pytest.fixture
async def message(database: Database, tenant_id: UUID) -> Message:
    queued = (await queue_for(database, tenant_id, ["ann"])).messages[0]
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Message).where(Message.tenant_id == tenant_id).values(status="sent"))
        return await session.get_one(Message, {"tenant_id": tenant_id, "id": queued.message_id})


async def take(database: Database, tenant_id: UUID, raw: bytes, tokens: Tokens, recipient: str | None = None) -> Taken:
    async with database.tenant(tenant_id) as session:
        return await incoming_mail.take(session, raw, tokens=tokens, by=CLI, recipient=recipient)


async def status(database: Database, tenant_id: UUID) -> tuple[str, str | None]:
    async with database.tenant(tenant_id) as session:
        row = (
            await session.execute(select(Message.status, Message.reason).where(Message.tenant_id == tenant_id))
        ).one()
    return row.status, row.reason


@pytest.mark.parametrize("by", ["envelope", "header", "message_id"])
async def test_a_bounce_finds_its_message(
    database: Database, tenant_id: UUID, message: Message, tokens: Tokens, by: str
) -> None:
    verp = f"b+{tokens.bounce(MessageRef(tenant_id, message.id)).upper()}@bounces.example"
    raw = dsn(
        block("someone@else.example", "failed", "4.4.1", "gone"),
        block("ANN@example.com"),
        to=verp if by == "header" else "x@shop.example",
        returned=f"Message-ID: <{message.id}@shop.example>" if by == "message_id" else "",
    )
    for _ in range(2):
        taken = await take(database, tenant_id, raw, tokens, verp if by == "envelope" else None)
        assert taken == Taken("delivery_report", "recorded", message.id)
    assert await status(database, tenant_id) == ("bounced", "hard: 5.1.1 550 no such user")


@pytest.mark.parametrize(
    ("action", "code", "fate"),
    [
        ("failed", "5.1.1", "hard_bounce"),
        ("failed", "5.2.2", "soft_bounce"),
        ("failed", "5.7.1", "soft_bounce"),
        ("failed", "5.3.0", "soft_bounce"),
        ("failed", "5.1.10", "hard_bounce"),
        ("failed", "5.2.1", "hard_bounce"),
        ("failed", "4.4.7", "soft_bounce"),
        ("failed", "nonsense", "soft_bounce"),
        ("delivered", "2.0.0", "delivered"),
        ("delayed", "4.4.1", None),
        ("relayed", "2.0.0", None),
    ],
)
def test_what_a_status_says(action: str, code: str, fate: str | None) -> None:
    (recipient,) = mail_reports.read(dsn(block("a@b.example", action, code, "x"))).recipients
    assert (recipient.address, recipient.fate) == ("a@b.example", fate)


async def test_a_complaint_is_recorded(database: Database, tenant_id: UUID, message: Message, tokens: Tokens) -> None:
    returned = f"Message-ID: <{message.id}@shop.example>\nSubject: News\n\nHello"
    assert (await take(database, tenant_id, arf(returned, "not-spam"), tokens)).outcome == "ignored"
    assert (await take(database, tenant_id, arf(returned), tokens)).outcome == "recorded"
    assert await status(database, tenant_id) == ("complained", "abuse")


async def test_forged_and_strange_reports_change_nothing(
    database: Database, tenant_id: UUID, message: Message, tokens: Tokens
) -> None:
    good = tokens.bounce(MessageRef(tenant_id, message.id))
    forged = good[:55] + ("a" if good[55] != "a" else "b") + good[56:]
    others = tokens.bounce(MessageRef(uuid4(), message.id))
    for token in (forged, "a" * 60, others):
        taken = await take(database, tenant_id, dsn(block("ann@example.com")), tokens, f"b+{token}@x.example")
        assert taken == Taken("delivery_report", "unknown")
    for token in (forged, "", "é", good[:-2]):
        with pytest.raises(BadTokenError):
            tokens.read_bounce(token)
    assert tokens.read_bounce(good.upper()) == MessageRef(tenant_id, message.id)
    assert len(f"b+{good}") <= 64
    assert await status(database, tenant_id) == ("sent", None)


async def test_an_auto_reply_is_no_bounce_and_a_reply_is_logged_once(
    database: Database, tenant_id: UUID, message: Message, tokens: Tokens
) -> None:
    head = f"From: Ann <ann@example.com>\r\nTo: us@shop.example\r\nIn-Reply-To: <{message.id}@shop.example>\r\n"
    away = f"{head}Auto-Submitted: auto-replied (vacation)\r\nSubject: Away\r\n\r\nBye".encode()
    assert await take(database, tenant_id, away, tokens) == Taken("auto_reply", "ignored")
    reply = f"{head}Message-ID: <r1@example.com>\r\nSubject: =?utf-8?q?R=C3=A9?=\r\n\r\nYes".encode()
    first = await take(database, tenant_id, reply, tokens)
    assert (first.outcome, first.message_id) == ("logged", message.id)
    assert (await take(database, tenant_id, reply, tokens)).outcome == "ignored"
    async with database.tenant(tenant_id) as session:
        rows = (await session.scalars(select(Communication).where(Communication.tenant_id == tenant_id))).all()
    assert [(row.subject, row.body, row.direction) for row in rows] == [("Ré", "Yes", "in")]
    assert await status(database, tenant_id) == ("sent", None)


def test_what_cannot_be_read_is_said_so() -> None:
    empty = (
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n'
    )
    assert mail_reports.read(empty).kind == "unreadable"
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(3000))
    assert mail_reports.read(nested).kind in {"unreadable", "reply"}


@given(st.binary(max_size=2000), st.integers(0, 700))
def test_anything_can_be_read(junk: bytes, at: int) -> None:
    good = dsn(block("ann@example.com"), returned="Message-ID: <x@y>")
    mail_reports.read(junk)
    mail_reports.read(good[:at] + junk + good[at:])
    mail_reports.read(junk + b"\r\nFrom: \xff=?utf-8?b?///?=\r\nDate: 99 Foo\r\n\r\n\xff")
