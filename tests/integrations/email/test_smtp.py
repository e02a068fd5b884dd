"""TLS and passwords, against a real server with a certificate of its own."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from core.ids import new_id
from integrations.email.port import Delivery, Mail, Outcome, UnreachableError
from integrations.email.smtp import SmtpChannel, SmtpServer
from tests.sender.support import MailServer


class Noted:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[UUID] = []
        self.deliveries: list[Delivery] = []

    def started(self, mail_id: UUID) -> None:
        self.begun.append(mail_id)

    def finished(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)


def _mail() -> Mail:
    return Mail(new_id(), "shop@example.com", "ann@example.com", b"Subject: Hi\r\n\r\n.dot\r\n")


@pytest.fixture(scope="module")
async def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=mail.test"]
    made = await asyncio.create_subprocess_exec(
        *command, "-keyout", str(folder / "key"), "-out", str(folder / "cert"), stderr=asyncio.subprocess.DEVNULL
    )
    assert await made.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


@asynccontextmanager
async def _serving(
    server: MailServer, *, starttls: ssl.SSLContext | None = None, passwords: bool = False
) -> AsyncGenerator[int]:
    def authenticate(*arguments: object) -> AuthResult:
        given = arguments[-1]
        assert isinstance(given, LoginPassword)
        return AuthResult(success=given.password == b"p@ss", handled=False)

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(
            server,
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=passwords,
            auth_require_tls=starttls is not None,
            authenticator=authenticate if passwords else None,
        ),
        "127.0.0.1",
        0,
    )
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


async def _send(url: str) -> list[Delivery]:
    channel = SmtpChannel(SmtpServer.of(url))
    noted = Noted()
    mail = _mail()
    try:
        await channel.deliver(iter([mail]), noted, expected=1)
    finally:
        await channel.close()
    assert noted.begun == [mail.id]
    return noted.deliveries


async def test_tls_and_a_password_are_used_where_the_server_asks(certificate: ssl.SSLContext) -> None:
    server = MailServer()
    async with _serving(server, starttls=certificate, passwords=True) as port:
        (delivery,) = await _send(f"smtp://shop:p%40ss@127.0.0.1:{port}")
    assert (delivery.outcome, delivery.provider_id) == (Outcome.SENT, "OK queued as 42")
    ((_, mail),) = server.received
    assert mail.get_content().strip() == ".dot"


async def test_a_wrong_password_leaves_the_mail_unsent(certificate: ssl.SSLContext) -> None:
    async with _serving(MailServer(), starttls=certificate, passwords=True) as port:
        with pytest.raises(UnreachableError, match="535"):
            await _send(f"smtp://shop:wrong@127.0.0.1:{port}")


async def test_a_certificate_nobody_vouches_for_is_refused_beyond_this_machine(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmtpServer, "is_loopback", False)
    server = MailServer()
    async with _serving(server, starttls=certificate) as port:
        with pytest.raises(UnreachableError, match="certificate"):
            await _send(f"smtp://127.0.0.1:{port}")
    assert server.received == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # the server knows what it does
async def test_a_password_does_not_leave_this_machine_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpServer, "is_loopback", False)
    async with _serving(MailServer(), passwords=True) as port:
        with pytest.raises(UnreachableError, match="no TLS"):
            await _send(f"smtp://shop:p%40ss@127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["http://a", "smtp://", "mail.example.com:25"])
def test_an_address_that_is_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SMTP_URL"):
        SmtpServer.of(url)


def test_ports_and_passwords_are_read(tmp_path: Path) -> None:
    assert SmtpServer.of("smtps://u:p%3A@mail.example.com") == SmtpServer("mail.example.com", 465, True, "u", "p:")
    assert SmtpServer.of("smtp://mail.example.com:587").port == 587
    assert "p:" not in repr(SmtpServer.of("smtps://u:p%3A@mail.example.com"))
