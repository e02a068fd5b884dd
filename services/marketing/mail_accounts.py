"""What an account for mail is made of, and the server that each provider documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from integrations.email import provided
from integrations.email.provided import Marks
from integrations.email.reports import sendgrid
from integrations.email.smtp_server import SmtpServer

Secret = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[!-~]+$")]
Address = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[!-~]+$")]
Login = Annotated[str, Field(min_length=1, max_length=500)]


class Part(BaseModel):
    """One of the two parts of an account."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SmtpConfig(Part):
    """A mail server: `smtp://host[:port]`, or `smtps://` for TLS from the first byte."""

    url: Address
    username: Login | None = None


class SmtpSecret(Part):
    """The password of `username`."""

    password: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class _Provided(Part):
    url: Address | None = None
    """A server instead of the provider's own; where the deployment allows private hosts."""


class SendgridConfig(_Provided):
    """An account with SendGrid."""

    verification_key: Annotated[str, Field(max_length=1000)] | None = None
    """Of its signed event webhook; without it events are not taken: nothing shows that they come from SendGrid."""

    @field_validator("verification_key")
    @classmethod
    def _is_key(cls, key: str | None) -> str | None:
        if key is not None:
            sendgrid.key_of(key)
        return key


class SendgridSecret(Part):
    """A key that may send mail."""

    api_key: Secret


class MailgunConfig(_Provided):
    """SMTP credentials of a domain at Mailgun."""

    username: Login
    region: Literal["us", "eu"] = "us"


class MailgunSecret(Part):
    """Their password, and the key that signs webhooks."""

    password: Secret
    webhook_signing_key: Secret | None = None


class PostmarkConfig(_Provided):
    """A message stream of a server at Postmark."""

    message_stream: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,29}$")] = "outbound"
    broadcasts: bool = False
    """Whether the stream is one for broadcasts, which have a mail server of their own."""


class PostmarkSecret(Part):
    """The server's token, and the credentials that webhooks come with."""

    server_token: Secret
    webhook_username: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-9;-~]+$")] | None = None
    webhook_password: Secret | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.webhook_username is None) != (self.webhook_password is None):
            raise ValueError("needs both of webhook_username and webhook_password, or neither")
        return self


class SesConfig(_Provided):
    """SMTP credentials of Amazon SES in a region."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]{2,12}){1,2}-\d$")]
    username: Login
    configuration_set: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    topic_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]{1,256}$")] | None = (
        None
    )
    """The SNS topic that events come by; those of any other are not taken."""


class SesSecret(Part):
    """The password of `username`."""

    password: Secret


@dataclass(frozen=True, slots=True)
class Way:
    """How mail goes by an account."""

    server: SmtpServer
    marks: Marks | None
    """None where nobody needs to be told which message a mail is."""


_MAILGUN: Final[Mapping[str, str]] = {"us": "smtp.mailgun.org", "eu": "smtp.eu.mailgun.org"}
_PORT: Final = 587


def way_of(config: object, secret: object) -> Way | None:
    """Return how mail goes by an account, None where it is one of another channel."""
    match config, secret:
        case SmtpConfig(), SmtpSecret():
            login = None if config.username is None else (config.username, secret.password or "")
            return Way(_server(config.url, "", login), None)
        case SendgridConfig(), SendgridSecret():
            return Way(_server(config.url, "smtp.sendgrid.net", ("apikey", secret.api_key)), provided.sendgrid)
        case MailgunConfig(), MailgunSecret():
            server = _server(config.url, _MAILGUN[config.region], (config.username, secret.password))
            return Way(server, provided.mailgun)
        case PostmarkConfig(), PostmarkSecret():
            host = "smtp-broadcasts.postmarkapp.com" if config.broadcasts else "smtp.postmarkapp.com"
            server = _server(config.url, host, (secret.server_token, secret.server_token))
            return Way(server, provided.postmark(config.message_stream))
        case SesConfig(), SesSecret():
            host = f"email-smtp.{config.region}.amazonaws.com"
            server = _server(config.url, host, (config.username, secret.password))
            return Way(server, provided.ses(config.configuration_set))
        case _:
            return None


def _server(url: str | None, host: str, login: tuple[str, str] | None) -> SmtpServer:
    parts = urlsplit(url or f"smtp://{host}:{_PORT}")
    if login is not None:
        parts = parts._replace(netloc=f"{quote(login[0], safe='')}:{quote(login[1], safe='')}@{parts.netloc}")
    return SmtpServer.of(urlunsplit(parts))
