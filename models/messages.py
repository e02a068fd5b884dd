"""Templates and messages: one row for everything sent to one person on one channel."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, Traced, belongs_to, of_person, of_tenant, system
from models.identity import CHANNELS, one_of

MESSAGE_STATUSES = ("queued", "excluded", "sent", "delivered", "bounced", "complained", "failed", "in_doubt")

READY = text("finished_at IS NULL AND (held_for IS NULL OR held_for = 'cancel')")
"""Says it of a page word for word as the index does."""


class Template(Created, TenantRow):
    """A named template; its text is in its versions."""

    __tablename__ = "template"
    __table_args__ = (
        of_tenant(),
        # the key of a deleted one is free again
        Index("template_key", "tenant_id", "channel", "key", unique=True, postgresql_where=text("deleted_at IS NULL")),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
    )

    key: Mapped[str]
    channel: Mapped[str]
    name: Mapped[str | None]
    current_version_id: Mapped[UUID | None]
    deleted_at: Mapped[datetime | None]
    """Set: nothing new is made from it; what was sent keeps its text."""


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
    format: Mapped[str] = mapped_column(server_default="html")
    """`html`, `mjml` or `text`: what `source` is written in."""
    source: Mapped[str | None]
    """What the author wrote where `body` was made from it: MJML, or HTML whose styles were not yet inlined."""
    partials: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """The partials it renders, by key, as they were when it was saved."""
    locales: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """`{locale: {subject, body, text_body, source}}`: what people of that locale get instead."""
    options: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What a channel has beside subject and body: the link and image of a push message."""


class TemplatePartial(Created, TenantRow):
    """A piece of text that templates of a channel render by name; each version keeps it as it was when saved."""

    __tablename__ = "template_partial"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "channel", "key"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
    )

    key: Mapped[str]
    channel: Mapped[str]
    body: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


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
    """`journey:{enrollment}:{node}:{visit}`, `campaign:{id}:{occurrence}:{person}`, with `post` in place of the person
    of a post, `confirm:{consent change}`, or
    that of a test copy, which is of nobody (`services.marketing.test_sends`)."""
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
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    """0 transactional, 1 journey, 2 bulk: frequency caps count what is not transactional, the more urgent first."""
    variant: Mapped[int | None] = mapped_column(SmallInteger)
    """Index of the campaign's variant; null for the rest of an audience until the test is decided."""
    tested: Mapped[bool | None]
    """Whether it belongs to the sample of an A/B test; null without a test."""
    unsubscribed_at: Mapped[datetime | None]
    machine_opens: Mapped[int | None] = mapped_column(Integer)
    """Opens by privacy proxies and scanners, which say nothing of the person; not in `opens`."""
    machine_clicks: Mapped[int | None] = mapped_column(Integer)
    last_click_at: Mapped[datetime | None]
    """By what calls itself a browser; with it those that follow it too fast for anybody are known."""
    last_click_link: Mapped[int | None] = mapped_column(BigInteger)
    """Hash of where that click led."""
    last_clicks: Mapped[int | None] = mapped_column(Integer)
    """How many clicks have followed one another so fast, on the same link; null once they are a machine's."""


class MessageClick(Created, Base):
    """How often a link of a campaign's message was followed."""

    __tablename__ = "message_click"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "message_id", "link"),
        belongs_to("person", "person_id"),
        Index(None, "tenant_id", "person_id"),
        {
            "info": of_person(
                # an address may hold what the person is called
                OfPerson(column="person_id", merge="move", erase="detach", blanks={"url": "NULL"})
            ),
            "postgresql_with": {"fillfactor": "70"},
        },
    )

    tenant_id: Mapped[UUID]
    message_id: Mapped[UUID]
    """No foreign key: a message is never deleted alone."""
    link: Mapped[int]
    """Hash of where it led, as `Message.last_click_link`."""
    person_id: Mapped[UUID | None]
    """Null once the person was erased: the clicks still count."""
    url: Mapped[str | None]
    """Where it led, without the campaign's parameters; null of somebody erased."""
    clicks: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    machine_clicks: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """By scanners; not in `clicks`."""


class MessagePage(Traced, Created, TenantRow):
    """Messages claimed together: a sender leases the page, so a message itself is written once, with its result."""

    __tablename__ = "message_page"
    __table_args__ = (
        # tenants take turns: their first pages are found without reading the rest of them
        Index("message_page_ready_idx", "priority", "tenant_id", "ready_at", "id", postgresql_where=READY),
        Index("message_page_run_idx", "tenant_id", "run_id", postgresql_where=text("run_id IS NOT NULL")),
        CheckConstraint(one_of("held_for", ("winner", "pause", "cancel")), name="held_for"),
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
    run_id: Mapped[UUID | None]
    """The run of a campaign that it is of."""
    held_for: Mapped[str | None]
    """`winner`: of a test, `pause`: until resumed; not claimed meanwhile. `cancel`: its messages are to be excluded."""
    expires_at: Mapped[datetime | None]
    """Messages not sent by then are excluded as `too_late`."""
    shown: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`{entry, locale}` of test copies that show others than their person's; null once the page is finished."""
    local_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))
    """Not sent before the clocks of each recipient's zone show this."""
