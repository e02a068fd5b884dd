"""How messages reach people beside what a deployment is set up with: accounts, devices, sender domains, limits."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import CHANNELS, one_of

PROVIDERS = ("smtp", "sendgrid", "mailgun", "postmark", "ses", "twilio", "fcm", "mastodon")


class ChannelAccount(Created, TenantRow):
    """A tenant's account with a provider, by which a channel's messages go."""

    __tablename__ = "channel_account"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        CheckConstraint(one_of("provider", PROVIDERS), name="provider"),
        # a channel's messages go by one account
        Index(
            "channel_account_active_key", "tenant_id", "channel", unique=True, postgresql_where=text("active = true")
        ),
    )

    key: Mapped[str]
    channel: Mapped[str]
    provider: Mapped[str]
    name: Mapped[str | None]
    config: Mapped[dict[str, Any]]
    """What may be shown: account ids, sender numbers, addresses of servers."""
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    """Passwords and tokens, encrypted under the deployment's key; never shown."""
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Device(Created, TenantRow):
    """An installed app that push messages reach a person by."""

    __tablename__ = "device"
    __table_args__ = (
        belongs_to("person", "person_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "token"),
        Index(None, "tenant_id", "person_id", "id"),
        CheckConstraint(one_of("platform", ("android", "ios", "web")), name="platform"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    person_id: Mapped[UUID]
    token: Mapped[str]
    """The registration token that FCM gave the app."""
    platform: Mapped[str]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ShortLink(Created, TenantRow):
    """Where a short address in a text message leads; written before the message goes out."""

    __tablename__ = "short_link"
    __table_args__ = (
        belongs_to("person", "person_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "person_id"),
        {"info": system("SELECT") | of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    code: Mapped[str] = mapped_column(Text(collation="C"), unique=True)
    """Ends the address. It follows from message and target, so that writing it again changes nothing."""
    message_id: Mapped[UUID]
    person_id: Mapped[UUID]
    target: Mapped[str]


class SenderDomain(Created, TenantRow):
    """A domain that a tenant sends mail from, with the key its mail is signed with (DKIM, RFC 6376)."""

    __tablename__ = "sender_domain"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "domain"),
        CheckConstraint(one_of("status", ("pending", "verified", "failed")), name="status"),
        # among all tenants: one of them sends from a domain
        Index("sender_domain_verified_key", "domain", unique=True, postgresql_where=text("status = 'verified'")),
        {"info": system("SELECT")},
    )

    domain: Mapped[str]
    selector: Mapped[str]
    private_key: Mapped[bytes] = mapped_column(LargeBinary)
    """PEM, encrypted under the deployment's key."""
    public_key: Mapped[str]
    """Base64 of the DER, as it stands in the record to publish."""
    status: Mapped[str] = mapped_column(server_default="pending")
    """`verified` once the DKIM record was found; mail is signed from then on."""
    next_selector: Mapped[str | None]
    """While the key is rotated: where the new one is to be published; the old one signs until it was found."""
    next_private_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    next_public_key: Mapped[str | None]
    checks: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What was found of each record (DKIM, SPF, DMARC) when it was last looked for."""
    checked_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]


class RateBucket(Base):
    """How far a rate limit is used up, for all senders of a deployment (generic cell rate algorithm, ITU-T I.371)."""

    __tablename__ = "rate_bucket"
    __table_args__ = ({"info": system("SELECT, INSERT, UPDATE, DELETE"), "postgresql_with": {"fillfactor": "50"}},)

    key: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    """`provider:NAME`, `tenant:ID:CHANNEL`, `domain:ID:NAME`, `account:ID` or `run:ID`."""
    next_at: Mapped[datetime]
    """When the next message would be due if all were sent evenly."""


class Communication(Created, TenantRow):
    """A call, a meeting, a note, a mail or a text message with a person that the sender did not send."""

    __tablename__ = "communication"
    __table_args__ = (
        of_tenant(),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        belongs_to("organization", "organization_id", ondelete="CASCADE"),
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        CheckConstraint(one_of("channel", ("email", "call", "sms", "meeting", "note")), name="channel"),
        CheckConstraint(one_of("direction", ("in", "out")), name="direction"),
        CheckConstraint("num_nonnulls(person_id, organization_id, deal_id) > 0", name="subject"),
        Index(None, "tenant_id", "person_id", "occurred_at", "id"),
        Index(None, "tenant_id", "organization_id", "occurred_at", "id"),
        Index(None, "tenant_id", "deal_id", "occurred_at", "id"),
        Index(None, "tenant_id", "occurred_at", "id"),
        Index(None, "tenant_id", "thread_id"),
        Index(
            "communication_external_key",
            "tenant_id",
            "channel",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    person_id: Mapped[UUID | None]
    organization_id: Mapped[UUID | None]
    deal_id: Mapped[UUID | None]
    channel: Mapped[str]
    direction: Mapped[str | None]
    """From us (`out`) or to us (`in`); null where neither, as of a note."""
    thread_id: Mapped[UUID]
    """What belongs together: the id of the first of the thread, a message's or a communication's."""
    subject: Mapped[str | None]
    body: Mapped[str | None]
    outcome: Mapped[str | None]
    """How a call or meeting ended, such as `no_answer`."""
    duration_seconds: Mapped[int | None] = mapped_column(Integer)
    occurred_at: Mapped[datetime]
    external_id: Mapped[str | None]
    """`Message-ID` of a mail, a provider's id of a text message: the same is taken once."""
    message_id: Mapped[UUID | None]
    """The message it answers."""
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
