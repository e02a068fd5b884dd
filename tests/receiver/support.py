"""Bounces to hand over, and what became of the messages that they are of."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import func, select, update

from core.database import Database
from core.tokens import MessageRef, Tokens
from models import Communication, Message
from receiver.inbox import Inbox
from receiver.server import MailServer
from tests.sender.support import queue_for


def bounce(address: str) -> bytes:
    """A report that there is no such mailbox."""
    return f"""From: MAILER-DAEMON@mx.example
To: undisclosed
Subject: Undelivered Mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; {address}
Action: failed
Status: 5.1.1

--b--
""".replace("\n", "\r\n").encode()


def reply(message_id: str = "<r1@example.com>") -> bytes:
    return f"From: Ann <ann@example.com>\r\nTo: us@shop.example\r\nMessage-ID: {message_id}\r\n\r\nYes\r\n".encode()


async def sent_to(database: Database, tenant_id: UUID, name: str) -> UUID:
    """The id of a message that was sent to NAME@example.com."""
    queued = (await queue_for(database, tenant_id, [name])).messages[0]
    async with database.tenant(tenant_id) as session:
        await session.execute(
            update(Message).where(Message.tenant_id == tenant_id, Message.id == queued.message_id).values(status="sent")
        )
    return queued.message_id


async def status(database: Database, tenant_id: UUID, message_id: UUID) -> str:
    async with database.tenant(tenant_id) as session:
        return (await session.get_one(Message, {"tenant_id": tenant_id, "id": message_id})).status


async def logged(database: Database, tenant_id: UUID) -> int:
    """How many letters of people are kept."""
    async with database.tenant(tenant_id) as session:
        statement = select(func.count()).select_from(Communication).where(Communication.tenant_id == tenant_id)
        return (await session.execute(statement)).scalar_one()


def address_of(tokens: Tokens, tenant_id: UUID, message_id: UUID) -> str:
    return f"b+{tokens.bounce(MessageRef(tenant_id, message_id))}@bounces.example"


@asynccontextmanager
async def listening(inbox: Inbox, *, lmtp: bool, max_bytes: int = 100_000) -> AsyncGenerator[tuple[MailServer, int]]:
    """A server and its port."""
    server = MailServer(inbox, lmtp=lmtp, max_bytes=max_bytes)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop()
