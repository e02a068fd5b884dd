"""Templates and messages: one row for everything sent to one person on one channel."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, SmallInteger, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import CHANNELS, one_of

MESSAGE_STATUSES = ("queued", "excluded", "sent", "delivered", "bounced", "complained", "failed", "in_doubt")


class Template(Created, TenantRow):
    """A named template; its text is in its versions."""

    __tablename__ = "template"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "channel", "key"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
    )

    key: Mapped[str]
    channel: Mapped[str]
    name: Mapped[str | None]
    current_version_id: Mapped[UUID | None]


class TemplateVersion(Created, TenantRow):
    """The text of a template as saved once; never changed."""

    __tablename__ = "template_version"
    __table_args__ = (
        belongs_to("template", "template_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "template_id", "number"),
        CheckConstraint(one_of("purpose", ("marketing", "transactional")), name="purpose"),
        {"info": system("SELECT")},
    )

    template_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    subject: Mapped[str | None]
    body: Mapped[str]
    text_body: Mapped[str | None]
    from_address: Mapped[str | None]
    purpose: Mapped[str]
    topic: Mapped[str]
    variables: Mapped[list[Any]]
    """Paths the template reads, such as `person.first_name`."""


class Message(Created, TenantRow):
    """One thing sent, or deliberately not sent, to one person.

    No index covers status, provider id or times, so that recording a result stays a HOT update. Messages of an
    enrollment or a campaign are found by the prefix of their `dedupe_key`.
    """

    __tablename__ = "message"
    __table_args__ = (
        belongs_to("person", "person_id"),
        UniqueConstraint("tenant_id", "dedupe_key"),
        CheckConstraint(one_of("status", MESSAGE_STATUSES), name="status"),
        Index("message_person_idx", "tenant_id", "person_id", "id"),
        Index("message_page_idx", "tenant_id", "page_id"),
        {
            "info": system("SELECT, UPDATE")
            | of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    erase="detach",
                    blanks={
                        "address": "NULL",
                        "status": "CASE WHEN r.status = 'queued' THEN 'excluded' ELSE r.status END",
                        # a server's words, and a file's name, may hold the address
                        "reason": "CASE r.status WHEN 'queued' THEN 'erased' WHEN 'excluded' THEN r.reason END",
                        "provider_id": "NULL",
                    },
                )
            ),
            "postgresql_with": {"fillfactor": "50"},
        },
    )

    person_id: Mapped[UUID | None]
    """Null once the person was erased: the message still counts."""
    channel: Mapped[str]
    address: Mapped[str | None]
    """Where it went; fixed when queued."""
    template_version_id: Mapped[UUID]
    dedupe_key: Mapped[str] = mapped_column(Text(collation="C"))
    """`journey:{enrollment}:{node}:{visit}`, `campaign:{id}:{occurrence}:{person}` or `confirm:{consent change}`."""
    enrollment_id: Mapped[UUID | None]
    campaign_id: Mapped[UUID | None]
    page_id: Mapped[UUID | None]
    """The page it is claimed with; null for an excluded message."""
    status: Mapped[str] = mapped_column(server_default="queued")
    reason: Mapped[str | None]
    """Why it was excluded or failed."""
    provider_id: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    opened_at: Mapped[datetime | None]
    clicked_at: Mapped[datetime | None]
    opens: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    clicks: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class MessagePage(Created, TenantRow):
    """Messages claimed together: a sender leases the page, so a message itself is written once, with its result."""

    __tablename__ = "message_page"
    __table_args__ = (
        Index(
            "message_page_ready_idx",
            "priority",
            "id",
            postgresql_where=text("finished_at IS NULL"),
        ),
        {"info": system("SELECT, UPDATE"), "postgresql_with": {"fillfactor": "50"}},
    )

    channel: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    """0 transactional, 1 journey, 2 bulk; lower goes first."""
    size: Mapped[int] = mapped_column(Integer)
    leased_until: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    """`host:journal` of the sender that last held it."""
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How often messages of the page were put off by a temporary failure."""
    ready_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Not claimed before: moved on where messages are to be tried again later."""
    finished_at: Mapped[datetime | None]
