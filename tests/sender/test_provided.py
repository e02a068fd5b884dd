"""Mail by a provider's server: logged in as documented, each mail saying which message it is."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from core.database import Database
from core.settings import Settings
from services.marketing import mail_accounts, providers
from services.marketing.providers import Provider
from tests.factories import texting
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until


@asynccontextmanager
async def asking(mail_server: MailServer, logins: list[LoginPassword]) -> AsyncGenerator[str]:
    """Have a server that asks for a password listen while the block runs; its address."""

    def authenticate(*given: Any) -> AuthResult:  # noqa: ANN401 - aiosmtpd's
        logins.append(given[-1])
        return AuthResult(success=True)

    def session() -> SMTP:
        return SMTP(mail_server, hostname="mail.test", authenticator=authenticate, auth_require_tls=False)

    listener = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    try:
        yield f"smtp://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("provider", "config", "secret", "login"),
    [
        ("sendgrid", {}, {"api_key": "SG.k"}, ("apikey", "SG.k")),
        ("mailgun", {"username": "postmaster@mg.example"}, {"password": "p"}, ("postmaster@mg.example", "p")),
        ("postmark", {"message_stream": "news"}, {"server_token": "t"}, ("t", "t")),
        (
            "ses",
            {"region": "eu-west-1", "username": "AKIA", "configuration_set": "all"},
            {"password": "a/b+c="},
            ("AKIA", "a/b+c="),
        ),
    ],
)
async def test_mail_goes_by_a_providers_server_and_names_its_message(
    database: Database,
    tenant_id: UUID,
    smtp_settings: Settings,
    mail_server: MailServer,
    *,
    provider: Provider,
    config: dict[str, Any],
    secret: dict[str, Any],
    login: tuple[str, str],
) -> None:
    logins: list[LoginPassword] = []
    bouncing = smtp_settings.model_copy(update={"bounce_domain": "bounces.example.com"})
    (message,) = (await queue_for(database, tenant_id, ["ann"], from_address="Shop <news@shop.example>")).messages

    async def done() -> bool:
        return await open_pages(database, tenant_id) == 0

    async with asking(mail_server, logins) as url:
        await texting.account(database, tenant_id, bouncing, provider, config | {"url": url}, secret)
        async with sending(database, bouncing):
            await until(done)
    assert await statuses(database, tenant_id) == {"ann": ("sent", None)}
    assert {(each.login.decode(), each.password.decode()) for each in logins} == {login}
    assert mail_server.senders == ["news@shop.example"]
    ((_, mail),) = mail_server.received
    assert mail["Message-ID"] == f"<{message.message_id}@shop.example>"
    ours = str(message.message_id)
    if provider == "sendgrid":
        said = json.loads(mail["X-SMTPAPI"])
        assert said["unique_args"] == {"throughline_message": ours}
        assert {name: each["settings"]["enable"] for name, each in said["filters"].items()} == {
            "clicktrack": 0,
            "opentrack": 0,
        }
    elif provider == "mailgun":
        assert json.loads(mail["X-Mailgun-Variables"]) == {"throughline_message": ours}
        assert mail["X-Mailgun-Track"] == "no"
    elif provider == "postmark":
        assert mail["X-PM-Metadata-throughline_message"] == ours
        assert (mail["X-PM-Message-Stream"], mail["X-PM-KeepID"], mail["X-PM-TrackLinks"]) == ("news", "true", "None")
    else:
        assert mail["X-SES-MESSAGE-TAGS"] == f"throughline_message={ours}"
        assert mail["X-SES-CONFIGURATION-SET"] == "all"


@pytest.mark.parametrize(
    ("provider", "config", "secret", "host"),
    [
        ("sendgrid", {}, {"api_key": "k"}, "smtp.sendgrid.net"),
        ("mailgun", {"username": "u"}, {"password": "p"}, "smtp.mailgun.org"),
        ("mailgun", {"username": "u", "region": "eu"}, {"password": "p"}, "smtp.eu.mailgun.org"),
        ("postmark", {}, {"server_token": "t"}, "smtp.postmarkapp.com"),
        ("postmark", {"broadcasts": True}, {"server_token": "t"}, "smtp-broadcasts.postmarkapp.com"),
        ("ses", {"region": "us-east-1", "username": "u"}, {"password": "p"}, "email-smtp.us-east-1.amazonaws.com"),
    ],
)
def test_each_provider_has_its_own_server(
    provider: Provider, config: dict[str, Any], secret: dict[str, Any], host: str
) -> None:
    read = providers.read(provider, config, secret, private=False)
    way = mail_accounts.way_of(read.config, read.secret)
    assert way is not None
    assert (way.server.host, way.server.port, way.server.implicit_tls) == (host, 587, False)
