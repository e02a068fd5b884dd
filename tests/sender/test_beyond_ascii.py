"""Addresses whose local part is not ASCII (RFC 6531): sent where the server takes them, else failed for themselves."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from core.database import Database
from core.settings import Settings
from tests.sender.support import MailServer, open_pages, queue_for, sending, serving, statuses, until

FAILED = "the address needs SMTPUTF8, which the server does not offer"
STRAIGHT = "<p>Hello {{ person.first_name }}</p>"
LIQUID = "<p>{% if person.first_name %}Hello {{ person.first_name }}{% endif %}</p>"


@dataclass
class Server(MailServer):
    """Keeps what it was told of each mail's envelope."""

    options: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.options[address] = [str(option).split("=")[0] for option in envelope.mail_options]
        return await super().handle_RCPT(server, session, envelope, address, options)


@pytest.fixture
async def mail_server(request: pytest.FixtureRequest) -> AsyncGenerator[MailServer]:
    async with serving(Server(utf8=request.param)) as server:
        yield server


async def _sent(database: Database, tenant_id: UUID, settings: Settings) -> dict[str, tuple[str, str | None]]:
    async def settled() -> bool:
        return await open_pages(database, tenant_id) == 0

    async with sending(database, settings):
        await until(settled)
    return await statuses(database, tenant_id)


@pytest.mark.parametrize("body", [STRAIGHT, LIQUID])
@pytest.mark.parametrize("mail_server", [True], indirect=True)
async def test_they_are_sent_where_the_server_takes_them(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: Server, body: str
) -> None:
    await queue_for(database, tenant_id, ["ann", "jörg", "用户"], body=body)
    assert {status for status, _ in (await _sent(database, tenant_id, smtp_settings)).values()} == {"sent"}
    assert mail_server.recipients == sorted(["ann@example.com", "jörg@example.com", "用户@example.com"])
    raw = {mail.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0].decode(): mail for mail in mail_server.raw}
    assert set(raw) == set(mail_server.recipients)
    assert raw["jörg@example.com"].count(b"j=C3=B6rg") >= 3, "subject, HTML and text"
    assert mail_server.options["ann@example.com"] == ["SIZE"]
    assert mail_server.options["jörg@example.com"] == ["SIZE", "BODY", "SMTPUTF8"]


@pytest.mark.parametrize("body", [STRAIGHT, LIQUID])
@pytest.mark.parametrize("mail_server", [False], indirect=True)
async def test_elsewhere_each_fails_for_itself(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: Server, body: str
) -> None:
    await queue_for(database, tenant_id, ["ann", "jörg", "zoe"], body=body)
    expected = {"ann": ("sent", None), "jörg": ("failed", FAILED), "zoe": ("sent", None)}
    assert await _sent(database, tenant_id, smtp_settings) == expected
    assert mail_server.recipients == ["ann@example.com", "zoe@example.com"]


@pytest.mark.parametrize("mail_server", [True], indirect=True)
async def test_a_sender_may_be_one(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: Server
) -> None:
    await queue_for(database, tenant_id, ["ann"], from_address="Jörg <jörg@käse.example>")
    await _sent(database, tenant_id, smtp_settings)
    assert mail_server.senders == ["jörg@xn--kse-qla.example"]
    assert mail_server.raw[0].startswith("From: =?utf-8?b?SsO2cmc=?= <jörg@xn--kse-qla.example>\r\n".encode())
