"""Settings of a process, read from the environment (and nothing else) and validated once."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.domains import Domain


class Settings(BaseSettings):
    """What a process needs to know about its surroundings; each field is an environment variable of the same name."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore", frozen=True)

    domain: Domain | None = None
    """Of an API or a worker: the one domain that it serves; unset: all."""

    database_url: str
    """`postgresql://user:password@host:port/name`; the user is, or may become, tl_owner and the other `tl_` roles."""
    database_pool_size: int = Field(default=10, ge=1, le=200)
    """Connections a process keeps per role."""

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_api_key: SecretStr | None = None
    """With a key, or with TLS material, the connection uses TLS (Temporal Cloud)."""
    temporal_tls: bool = False
    temporal_tls_cert: Path | None = None
    temporal_tls_key: Path | None = None

    secret_key: SecretStr = Field(min_length=32)
    """Signs tracking and unsubscribe tokens; the same for every process of a deployment."""
    public_url: str = "http://127.0.0.1:8080"
    """Where recipients reach `/t/...`; no trailing slash."""

    smtp_url: str | None = None
    """`smtp://[user:password@]host:port`, `smtps://` for implicit TLS; without it mail goes to `mail_dir`."""
    email_rate_per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    """At most so many mails a minute to the server of `smtp_url`, from all senders together; unset: no limit."""
    smtp_timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    """How long each answer of a mail server is waited for. No answer to a mail itself leaves it in doubt."""
    mail_dir: Path = Path(".cache/mail")
    """Where the file sink writes `.eml` files."""
    mail_from: str = "no-reply@localhost"
    """Address that mail comes from where neither template nor tenant names a sender."""
    bounce_domain: str | None = Field(default=None, pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$", max_length=189)
    """Mail's envelope comes from `b+TOKEN@` this domain, so that bounces say which message they are of; unset: from the
    sender that the mail names. What arrives there is to be handed in, see docs/feedback.md."""
    allow_private_hosts: bool = False
    """Whether tenants' accounts with providers may name hosts of the deployment's own network, and plain HTTP."""
    require_verified_domain: bool = False
    """Whether mail that a template or tenant names the sender of must come from a verified sender domain of the tenant.
    `mail_from` is the deployment's own, and may always be."""
    dns_resolver: str | None = None
    """`host` or `host:port` of the resolver asked for the records of sender domains; without it, the machine's."""
    spf_include: str | None = None
    """What a sender domain's SPF record is to include, as in `spf.mail.example`: the hosts that mail leaves by."""
    data_dir: Path = Path(".cache/data")
    """Local state of a sender: the journal of messages in flight."""

    max_body_bytes: int = Field(default=2 * 1024 * 1024, ge=1024)
    """A larger request body is refused with 413."""
    max_import_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024)
    """The same for a file of people to import."""
    max_mail_bytes: int = Field(default=10_240_000, ge=64 * 1024)
    """The same for a mail that `throughline inbound` is handed; as much as Postfix takes unless told otherwise."""
    graphql_max_depth: int = Field(default=15, ge=1, le=100)
    """Levels that a GraphQL query may nest."""
    graphql_max_cost: int = Field(default=20_000, ge=100)
    """Fields that a GraphQL query may ask for, those in lists as often as the list is long."""
    streams: int = Field(default=10_000, ge=1)
    """Listeners of `/v1/stream` that one API process serves at a time, and as many sockets of GraphQL."""
    streams_per_tenant: int = Field(default=2_000, ge=1)
    """The same of one tenant."""
    log_level: str = "INFO"
    metrics_listen: str | None = Field(default=None, pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")
    """`HOST:PORT` where `GET /metrics` is answered, for Prometheus; processes of one machine that find the port taken
    take the next free one. Unset: nowhere."""
    worker_version: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """The build of this deployment, as in `2026.11.2`: workers of different ones run side by side, and Temporal says
    which of them gets what (docs/upgrading.md). Unset: workers are all alike to Temporal."""

    stripe_url: str = "https://api.stripe.com"
    """Where Stripe is asked, for all tenants' accounts: another address is for tests."""

    geocoder: Literal["offline", "nominatim"] = "offline"
    """Who finds the coordinates of addresses: a table of cities, at once, or a Nominatim server, soon after."""
    nominatim_url: str = "https://nominatim.openstreetmap.org"
    """The server asked where `geocoder` is `nominatim`: it is told the addresses."""


@cache
def settings() -> Settings:
    """Return this process's settings.

    Raises:
        pydantic.ValidationError: a required variable is absent or malformed.
    """
    return Settings()  # pyright: ignore[reportCallIssue]  # the fields come from the environment
