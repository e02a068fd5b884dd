"""A real SMTP server that answers as addresses ask, people with messages queued for them, and a sender to run."""

import asyncio
import email
import email.policy
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import String, cast, func, insert, literal, null, select

from core.actor import CLI
from core.database import Database
from core.ids import new_ids
from core.settings import Settings
from models import Consent, Message, MessagePage, Person
from sender.loop import Sender
from sender.policy import Policy
from services.marketing import queueing, templates


@dataclass
class MailServer:
    """A server on this machine. `refuse` maps the start of a recipient's address to the answers it gets in turn."""

    refuse: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    refuse_data: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    received: list[tuple[str, EmailMessage]] = field(default_factory=list[tuple[str, EmailMessage]])
    raw: list[bytes] = field(default_factory=list[bytes])
    """The mails as they came."""
    senders: list[str] = field(default_factory=list[str])
    """Of the envelopes of what was received."""
    connections: int = 0
    port: int = 0
    utf8: bool = False
    """Whether it offers SMTPUTF8."""
    hold: asyncio.Event | None = None
    """While set and not yet set off, the answer to each mail waits for it."""
    waiting: int = 0

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def recipients(self) -> list[str]:
        return sorted(recipient for recipient, _ in self.received)

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self._answer(self.refuse, address)
        if answer == "drop":
            _drop(server)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        address: str = envelope.rcpt_tos[0]
        answer = self._answer(self.refuse_data, address)
        if answer == "drop":
            _drop(server)
        if answer:
            return answer
        content: Any = envelope.content
        self.received.append((address, _parsed(content)))
        self.raw.append(envelope.original_content or b"")
        self.senders.append(envelope.mail_from or "")
        if self.hold is not None:
            self.waiting += 1
            await self.hold.wait()
        return "250 OK queued as 42"

    @staticmethod
    def _answer(answers: dict[str, list[str]], address: str) -> str | None:
        for start, left in answers.items():
            if address.startswith(start) and left:
                return left.pop(0)
        return None


def _drop(server: SMTP) -> None:
    assert server.transport is not None
    server.transport.close()


def _parsed(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


@asynccontextmanager
async def serving(mail_server: MailServer) -> AsyncGenerator[MailServer]:
    """Have the server listen while the block runs."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(mail_server, hostname="mail.test", enable_SMTPUTF8=mail_server.utf8),
        "127.0.0.1",
        mail_server.port,
    )
    mail_server.port = listener.sockets[0].getsockname()[1]
    try:
        yield mail_server
    finally:
        listener.close()


BODY = "<p>Hello {{ person.first_name }}</p><p>{{ entry.note }}</p><a href='https://shop.example/?a=1&amp;b=2'>Shop</a>"


async def queue_for(
    database: Database,
    tenant_id: UUID,
    names: list[str],
    *,
    key: str = "news",
    **text: str | dict[str, templates.Wording],
) -> queueing.QueueResult:
    """Make a person with consent of each name, `name@example.com`, and queue a message for each."""
    ids = new_ids(len(names))
    async with database.tenant(tenant_id) as session:
        given = replace(templates.Text("Hello {{ person.first_name }}", BODY), **text)
        saved = await templates.create(session, key=key, channel="email", text=given, by=CLI)
        people = [
            {"tenant_id": tenant_id, "id": each, "email": f"{name}@example.com", "first_name": name}
            for each, name in zip(ids, names, strict=True)
        ]
        await session.execute(insert(Person), people)
        consents = [
            {"tenant_id": tenant_id, "person_id": each, "channel": "email", "topic": "general", "status": "opted_in"}
            for each in ids
        ]
        await session.execute(insert(Consent), consents)
        source = select(
            Person.id.label("person_id"),
            func.concat(literal("campaign:"), cast(Person.id, String)).label("dedupe_key"),
            null().label("enrollment_id"),
            null().label("campaign_id"),
        ).where(Person.tenant_id == tenant_id, Person.id.in_(ids))
        return await queueing.queue(
            session, source, channel="email", template_version=saved.version, priority=queueing.BULK, returning=True
        )


async def statuses(database: Database, tenant_id: UUID) -> dict[str, tuple[str, str | None]]:
    """Return each message's status and reason, by the first name of its person."""
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Person.first_name, Message.status, Message.reason)
            .join(Person, (Person.tenant_id == Message.tenant_id) & (Person.id == Message.person_id))
            .where(Message.tenant_id == tenant_id)
        )
        return {str(name): (status, reason) for name, status, reason in rows}


async def open_pages(database: Database, tenant_id: UUID) -> int:
    """Return how many pages are not finished."""
    async with database.tenant(tenant_id) as session:
        unfinished = (
            select(func.count())
            .select_from(MessagePage)
            .where(MessagePage.tenant_id == tenant_id, MessagePage.finished_at.is_(None))
        )
        return await session.scalar(unfinished) or 0


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: it does not within the time.
    """
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is the store's
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sending(database: Database, settings: Settings, *, policy: Policy | None = None) -> AsyncGenerator[Sender]:
    """Run a sender while the block runs, and stop it in good order."""
    sender = Sender(database, settings, policy=policy)
    stop = asyncio.Event()
    running = asyncio.create_task(sender.run(stop))
    try:
        yield sender
    finally:
        stop.set()
        await running


@asynccontextmanager
async def process(settings: Settings) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A sender process; killed when the block ends, if not before."""
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "SMTP_URL": settings.smtp_url or "",
        "DATA_DIR": str(settings.data_dir),
        "MAIL_DIR": str(settings.mail_dir),
        "ALLOW_PRIVATE_HOSTS": str(settings.allow_private_hosts),
    }
    if settings.smtp_url is None:
        del environment["SMTP_URL"]
    root = Path(__file__).parents[2]
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sender.sender_process", cwd=root, env=environment
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()
