"""What an account with each provider is made of: what may be shown, and what is kept sealed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field, ValidationError, model_validator

from core.errors import FieldProblem, InvalidError
from integrations.outward import check_url
from services.identity import normalize
from services.marketing.mail_accounts import (
    Address,
    MailgunConfig,
    MailgunSecret,
    Part,
    PostmarkConfig,
    PostmarkSecret,
    Secret,
    SendgridConfig,
    SendgridSecret,
    SesConfig,
    SesSecret,
    SmtpConfig,
    SmtpSecret,
)

Provider = Literal["smtp", "sendgrid", "mailgun", "postmark", "ses", "twilio", "fcm", "mastodon"]

CHANNEL_OF: Final[dict[Provider, str]] = {
    "smtp": "email",
    "sendgrid": "email",
    "mailgun": "email",
    "postmark": "email",
    "ses": "email",
    "twilio": "sms",
    "fcm": "push",
    "mastodon": "social",
}
REPORTING: Final[frozenset[str]] = frozenset({"sendgrid", "mailgun", "postmark", "ses", "twilio"})
"""Those that post what becomes of messages."""
OPT_OUT_TEXT: Final = "Reply STOP to opt out."
_MAIL_PORTS: Final = frozenset({25, 465, 587, 2525})
_MIN_KEY_BITS: Final = 2048


class TwilioConfig(Part):
    """An account with Twilio, and what its text messages come from."""

    account_sid: Annotated[str, Field(pattern=r"^AC[0-9a-fA-F]{32}$")]
    from_number: Annotated[str, Field(max_length=20)] | None = None
    """E.164, or up to 11 letters and digits where the country allows that."""
    messaging_service_sid: Annotated[str, Field(pattern=r"^MG[0-9a-fA-F]{32}$")] | None = None
    opt_out_text: Annotated[str, Field(min_length=1, max_length=100)] | None = OPT_OUT_TEXT
    """Ends marketing that does not name STOP; null: nothing is added."""
    base_url: Address | None = None
    """Instead of Twilio's own; where the deployment allows private hosts."""

    @model_validator(mode="after")
    def _one_sender(self) -> Self:
        if (self.from_number is None) == (self.messaging_service_sid is None):
            raise ValueError("needs either from_number or messaging_service_sid")
        return self


class TwilioSecret(Part):
    """The account's token, which also signs what Twilio reports; or a key to send by."""

    auth_token: Secret | None = None
    """Without it receipts and answers are not taken: nothing shows that they come from Twilio."""
    api_key_sid: Annotated[str, Field(pattern=r"^SK[0-9a-fA-F]{32}$")] | None = None
    api_key_secret: Secret | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("needs both of api_key_sid and api_key_secret, or neither")
        if self.auth_token is None and self.api_key_sid is None:
            raise ValueError("needs auth_token, or api_key_sid and api_key_secret")
        return self


class FcmConfig(Part):
    """A Firebase project and its service account."""

    project_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9:.\-]{2,62}$")]
    client_email: Annotated[str, Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")]
    private_key_id: Annotated[str, Field(max_length=200, pattern=r"^[!-~]+$")] | None = None
    base_url: Address | None = None
    token_url: Address | None = None


class FcmSecret(Part):
    """The service account's private key, PEM."""

    private_key: Annotated[str, Field(min_length=1, max_length=20_000)]


class MastodonConfig(Part):
    """An account on a Mastodon server."""

    base_url: Address
    visibility: Literal["public", "unlisted", "private"] = "public"
    max_characters: Annotated[int, Field(ge=1, le=100_000)] = 500
    """The server's limit of a post."""


class MastodonSecret(Part):
    """A token with the scopes `write:statuses` and `read:accounts`."""

    access_token: Secret


ProvidedConfig = SendgridConfig | MailgunConfig | PostmarkConfig | SesConfig
Config = SmtpConfig | ProvidedConfig | TwilioConfig | FcmConfig | MastodonConfig
SecretPart = (
    SmtpSecret | SendgridSecret | MailgunSecret | PostmarkSecret | SesSecret | TwilioSecret | FcmSecret | MastodonSecret
)

_PARTS: Final[dict[Provider, tuple[type[Config], type[SecretPart]]]] = {
    "smtp": (SmtpConfig, SmtpSecret),
    "sendgrid": (SendgridConfig, SendgridSecret),
    "mailgun": (MailgunConfig, MailgunSecret),
    "postmark": (PostmarkConfig, PostmarkSecret),
    "ses": (SesConfig, SesSecret),
    "twilio": (TwilioConfig, TwilioSecret),
    "fcm": (FcmConfig, FcmSecret),
    "mastodon": (MastodonConfig, MastodonSecret),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account's two parts, read."""

    config: Config
    secret: SecretPart


def read(provider: Provider, config: Mapping[str, Any], secret: Mapping[str, Any], *, private: bool) -> Credentials:
    """Check the parts of an account.

    Args:
        provider: whose account it is.
        config: what may be shown.
        secret: what is kept sealed.
        private: whether this deployment allows hosts of its own network.

    Raises:
        InvalidError: naming `config.FIELD` or `secret.FIELD`; no value is repeated.
    """
    config_type, secret_type = _PARTS[provider]
    problems: list[FieldProblem] = []
    found: list[Any] = []
    for name, kind, given in (("config", config_type, config), ("secret", secret_type, secret)):
        try:
            found.append(kind.model_validate(given))
        except ValidationError as error:
            problems += [
                FieldProblem(".".join((name, *map(str, each["loc"]))), each["msg"].removeprefix("Value error, "))
                for each in error.errors(include_input=False, include_url=False)
            ]
    if not problems:
        problems = _beyond(found[0], found[1], private=private)
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    return Credentials(*found)


def _beyond(config: Config, secret: SecretPart, *, private: bool) -> list[FieldProblem]:
    match config, secret:
        case SmtpConfig(), SmtpSecret():
            problem = _mail_server_problem(config.url, private=private)
            problems = [] if problem is None else [FieldProblem("config.url", problem)]
            if (config.username is None) != (secret.password is None):
                problems.append(FieldProblem("secret.password", "goes with config.username, and that with it"))
            return problems
        case SendgridConfig() | MailgunConfig() | PostmarkConfig() | SesConfig(), _:
            return _server_problems(config.url, private=private)
        case TwilioConfig(), _:
            return _number_problems(config.from_number) + _url_problems(config, private, overrides=("base_url",))
        case FcmConfig(), FcmSecret():
            return _key_problems(secret.private_key) + _url_problems(
                config, private, overrides=("base_url", "token_url")
            )
        case _:
            return _url_problems(config, private)


def _url_problems(config: Config, private: bool, *, overrides: tuple[str, ...] = ()) -> list[FieldProblem]:  # noqa: FBT001 - internal
    problems: list[FieldProblem] = []
    for name in overrides or ("base_url",):
        url: str | None = getattr(config, name)
        if url is None:
            continue
        if overrides and not private:
            problems.append(FieldProblem(f"config.{name}", "is for deployments that allow private hosts"))
            continue
        try:
            check_url(url, private=private)
        except ValueError as error:
            problems.append(FieldProblem(f"config.{name}", str(error)))
    return problems


def _server_problems(url: str | None, *, private: bool) -> list[FieldProblem]:
    if url is None:
        return []
    problem = _mail_server_problem(url, private=True) if private else "is for deployments that allow private hosts"
    return [] if problem is None else [FieldProblem("config.url", problem)]


def _mail_server_problem(url: str, *, private: bool) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path.strip("/") or parts.query:
        return "must be smtp://host:port or smtps://host:port"
    if parts.username is not None or parts.password is not None:
        return "must not hold the password: that is config.username and secret.password"
    if not private and port is not None and port not in _MAIL_PORTS:
        return f"must be a port for mail: {', '.join(map(str, sorted(_MAIL_PORTS)))}"
    try:
        check_url(f"https://{parts.netloc}", private=private)
    except ValueError as error:
        return str(error)
    return None


def _number_problems(number: str | None) -> list[FieldProblem]:
    if number is None or (number.isascii() and number.isalnum() and not number.isdigit()):
        return [] if number is None or len(number) <= 11 else [FieldProblem("config.from_number", "is too long")]  # noqa: PLR2004 - GSM's
    try:
        normal = normalize.phone(number, "config.from_number")
    except InvalidError as error:
        return list(error.errors)
    return [] if normal == number else [FieldProblem("config.from_number", f"must be written {normal}")]


def _key_problems(pem: str) -> list[FieldProblem]:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return [FieldProblem("secret.private_key", "is not a private key in PEM without a password")]
    if not isinstance(key, RSAPrivateKey) or key.key_size < _MIN_KEY_BITS:
        return [FieldProblem("secret.private_key", f"is not an RSA key of {_MIN_KEY_BITS} bits or more")]
    return []
