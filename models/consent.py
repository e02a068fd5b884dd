"""What people agreed to: the topics, where each person stands, and the ledger of how it came to that."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, Index, PrimaryKeyConstraint, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import CHANNELS, one_of

CONSENT_STATUSES = ("opted_in", "opted_out", "pending")
"""`pending`: asked for, not yet confirmed by the person (double opt-in); it allows nothing."""


class Topic(Created, TenantRow):
    """Something people can agree to hear about."""

    __tablename__ = "topic"
    __table_args__ = (of_tenant(), UniqueConstraint("tenant_id", "key"))

    key: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    channels: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """On which channels it is offered."""
    double_opt_in: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether an opt-in by a form counts only once the person confirmed it by mail."""
    public: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    """Whether the preference centre offers it to those who never chose it."""
    wording: Mapped[str | None]
    """What people are told when they agree; kept with each consent that names no other."""
    archived_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Consent(Base):
    """Where a person stands on one channel and topic now; the history is in `consent_change`."""

    __tablename__ = "consent"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "person_id", "channel", "topic"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        CheckConstraint(one_of("status", CONSENT_STATUSES), name="status"),
        # the strictest choice of both wins
        {"info": system("SELECT") | of_person(OfPerson(column="person_id", merge="own", erase="delete"))},
    )

    tenant_id: Mapped[UUID]
    person_id: Mapped[UUID]
    channel: Mapped[str]
    topic: Mapped[str]
    status: Mapped[str]
    source: Mapped[str | None]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ConsentChange(TenantRow):
    """One entry of the consent ledger: who chose what, when, where, and what they were told. Append-only."""

    __tablename__ = "consent_change"
    __table_args__ = (
        belongs_to("person", "person_id"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        CheckConstraint(one_of("status", CONSENT_STATUSES), name="status"),
        Index(None, "tenant_id", "person_id", "at"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="own"))},
    )

    person_id: Mapped[UUID]
    channel: Mapped[str]
    topic: Mapped[str]
    status: Mapped[str]
    source: Mapped[str | None]
    """Where the person chose: `signup_form`, `unsubscribe_link`, `import`."""
    wording: Mapped[str | None]
    """What the person was told."""
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What else shows it: `ip`, `user_agent`, `url`, `form_id`, `merge_id`."""
    actor: Mapped[str]
    request_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
