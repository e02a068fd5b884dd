"""Webhooks: others' addresses that are told what happens, and each telling."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Index, Integer, LargeBinary, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import one_of

ENDPOINT_STATUSES = ("active", "paused")
PAUSE_REASONS = ("manual", "failing", "gone")
DELIVERY_STATUSES = ("pending", "delivered", "failed")


class WebhookEndpoint(Created, TenantRow):
    """An address that is told of events of some types."""

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("status", ENDPOINT_STATUSES), name="status"),
        CheckConstraint(one_of("paused_because", PAUSE_REASONS), name="paused_because"),
        CheckConstraint("(status = 'paused') = (paused_at IS NOT NULL)", name="paused_at"),
        CheckConstraint("batch_size BETWEEN 1 AND 100", name="batch_size"),
        {"info": system("SELECT")},
    )

    url: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """`*`, a first word as `order.*`, or a type as `order.placed`."""
    batch_size: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """Most events of one request; with more than one the body's `data` is a list."""
    status: Mapped[str] = mapped_column(server_default="active")
    paused_because: Mapped[str | None]
    paused_at: Mapped[datetime | None]
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    """Sealed (`core.sealing`)."""
    old_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The one before, sealed; requests are signed by both until `old_secret_until`."""
    old_secret_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    """The first of the failures after which nothing has been delivered; while set, one request at a time is tried."""
    idle: Mapped[bool] = mapped_column(server_default=text("true"))
    """True where its workflow has nothing to do until it is woken, or a retry falls due."""
    fence: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Counts who took over sending; whoever has an older number writes nothing any more."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Created, TenantRow):
    """One event that one endpoint is told of. Its id is the header `webhook-id` of all attempts."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        belongs_to("webhook_endpoint", "endpoint_id", ondelete="CASCADE"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("status", DELIVERY_STATUSES), name="status"),
        Index(
            "webhook_delivery_event_idx",
            "tenant_id",
            "endpoint_id",
            "event_id",
            unique=True,
            postgresql_where=text("event_id IS NOT NULL"),
        ),
        Index(
            "webhook_delivery_pending_idx",
            "tenant_id",
            "endpoint_id",
            "position",
            "id",
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "webhook_delivery_retry_idx",
            "tenant_id",
            "endpoint_id",
            "next_at",
            postgresql_where=text("status = 'pending' AND attempts > 0"),
        ),
        Index(None, "tenant_id", "endpoint_id", "position", "id"),
        Index(None, "tenant_id", "person_id"),
        Index("webhook_delivery_finished_idx", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        {"info": system("SELECT, DELETE") | of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    endpoint_id: Mapped[UUID]
    event_id: Mapped[UUID | None]
    """None of one that tries the endpoint out."""
    event_type: Mapped[str]
    subject_id: Mapped[UUID]
    """Of one subject's events each waits for the one before."""
    person_id: Mapped[UUID | None]
    position: Mapped[int] = mapped_column(BigInteger)
    """The event's on the bus: the order of telling."""
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Not before then."""
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Of the last attempt: `{"status": 200, "body": ..., "ms": 12}`, or `{"error": ..., "ms": 12}`."""
    attempted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
