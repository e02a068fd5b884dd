"""From an account to what delivers by it, and whether its credentials are taken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.tokens import AccountRef, Tokens
from integrations import outward
from integrations.email import check as mail_check
from integrations.email.port import EmailChannel, UnreachableError
from integrations.email.provided import Provided
from integrations.email.smtp import TIMEOUT_SECONDS, SmtpChannel
from integrations.push.fcm import BASE_URL as FCM_URL
from integrations.push.fcm import TOKEN_URL as FCM_TOKEN_URL
from integrations.push.fcm import FcmAccount, FcmChannel
from integrations.sms.twilio import BASE_URL as TWILIO_URL
from integrations.sms.twilio import TwilioAccount, TwilioChannel
from integrations.social.mastodon import MastodonAccount, MastodonChannel
from integrations.texts.port import RefusedError
from integrations.texts.requests import HttpChannel
from services.marketing import mail_accounts
from services.marketing.providers import (
    Credentials,
    FcmConfig,
    FcmSecret,
    MastodonConfig,
    MastodonSecret,
    TwilioConfig,
    TwilioSecret,
)

_CONNECTIONS: Final = 5
"""To a tenant's own mail server."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether an account's credentials are taken."""

    ok: bool
    detail: str
    """Whose account it is, or what the provider says."""


def hook_url(ref: AccountRef, provider: str, *, tokens: Tokens, public_url: str) -> str:
    """Return where a provider, one of `REPORTING`, reports what concerns an account."""
    return f"{public_url.rstrip('/')}/v1/hooks/{provider}/{tokens.account(ref)}"


def opened(
    credentials: Credentials,
    *,
    private_hosts: bool,
    hook: str | None = None,
    on_gone: Callable[[str], None] | None = None,
    smtp_timeout: float = TIMEOUT_SECONDS,
) -> EmailChannel:
    """Return what delivers by an account; nothing connects yet.

    Args:
        credentials: the account's.
        private_hosts: whether it may lead into the deployment's own network.
        hook: where receipts are to be sent.
        on_gone: told of each device's token that is no longer in use.
        smtp_timeout: seconds that each answer of a mail server is waited for.
    """
    way = mail_accounts.way_of(credentials.config, credentials.secret)
    if way is None:
        return _over_http(credentials, private_hosts, hook, on_gone)
    channel = SmtpChannel(way.server, connections=_CONNECTIONS, timeout=smtp_timeout)
    return channel if way.marks is None else Provided(channel, way.marks)


async def check_host(credentials: Credentials, *, private_hosts: bool) -> None:
    """See that a tenant's mail server is a public host; the adapters for HTTP see to that themselves.

    Raises:
        UnreachableError: it is not, or cannot be found.
    """
    way = mail_accounts.way_of(credentials.config, credentials.secret)
    if private_hosts or way is None:
        return
    try:
        await outward.public_address(way.server.host, way.server.port)
    except (OSError, outward.ForbiddenHostError) as error:
        raise UnreachableError(str(error)) from error


async def check(credentials: Credentials, *, private_hosts: bool) -> Checked:
    """Try an account's credentials with its provider; nothing is sent to anybody."""
    try:
        way = mail_accounts.way_of(credentials.config, credentials.secret)
        if way is not None:
            await check_host(credentials, private_hosts=private_hosts)
            return Checked(ok=True, detail=await mail_check.check(way.server))
        channel = _over_http(credentials, private_hosts, None, None)
        try:
            return Checked(ok=True, detail=await channel.check())
        finally:
            await channel.close()
    except RefusedError as error:
        return Checked(ok=False, detail=f"refused: {error}")
    except UnreachableError as error:
        return Checked(ok=False, detail=f"unreachable: {error}")


def _over_http(
    credentials: Credentials,
    private_hosts: bool,  # noqa: FBT001 - internal
    hook: str | None,
    on_gone: Callable[[str], None] | None,
) -> HttpChannel:
    client = outward.client(private=private_hosts)
    match credentials:
        case Credentials(TwilioConfig() as config, TwilioSecret() as secret):
            return TwilioChannel(_twilio(config, secret, hook), client)
        case Credentials(FcmConfig() as config, FcmSecret() as secret):
            account = FcmAccount(
                project_id=config.project_id,
                client_email=config.client_email,
                private_key=secret.private_key,
                private_key_id=config.private_key_id,
                base_url=config.base_url or FCM_URL,
                token_url=config.token_url or FCM_TOKEN_URL,
            )
            return FcmChannel(account, client, on_gone=on_gone)
        case Credentials(MastodonConfig() as config, MastodonSecret() as secret):
            posting = MastodonAccount(
                config.base_url, secret.access_token, config.visibility, max_characters=config.max_characters
            )
            return MastodonChannel(posting, client)
        case _:
            raise TypeError(f"{type(credentials.config).__name__} with {type(credentials.secret).__name__}")


def _twilio(config: TwilioConfig, secret: TwilioSecret, hook: str | None) -> TwilioAccount:
    key = secret.api_key_sid, secret.api_key_secret
    username, password = key if all(key) else (config.account_sid, secret.auth_token)
    return TwilioAccount(
        account_sid=config.account_sid,
        username=username or "",
        password=password or "",
        from_number=config.from_number,
        messaging_service_sid=config.messaging_service_sid,
        opt_out_text=config.opt_out_text,
        # What is not signed is not believed, so it need not be sent.
        status_callback=hook if secret.auth_token is not None else None,
        base_url=config.base_url or TWILIO_URL,
    )
