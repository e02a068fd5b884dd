"""What people and other systems are asked to do: tasks, notifications of teammates, calls of others' addresses."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, Traced, belongs_to, of_person, of_tenant, set_null, system
from models.identity import one_of

TASK_KINDS = ("todo", "call", "email", "meeting")
TASK_STATUSES = ("open", "done", "cancelled")
CALL_STATUSES = ("pending", "delivered", "failed")


def _once(table: str) -> Index:
    """A journey's node makes one for each member and visit, however often it is tried."""
    return Index(
        f"{table}_source_idx", "tenant_id", "source_key", unique=True, postgresql_where=text("source_key IS NOT NULL")
    )


class Task(Created, TenantRow):
    """Something a teammate is to do, about a person, an organization or a deal."""

    __tablename__ = "task"
    __table_args__ = (
        of_tenant(),
        belongs_to("person", "person_id"),
        belongs_to("organization", "organization_id", ondelete="CASCADE"),
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        set_null("user_account", "owner_id"),
        CheckConstraint(one_of("kind", TASK_KINDS), name="kind"),
        CheckConstraint(one_of("status", TASK_STATUSES), name="status"),
        CheckConstraint("(closed_at IS NULL) = (status = 'open')", name="closed_at"),
        # a teammate's open ones, the most urgent first; and everybody's
        Index("task_owner_idx", "tenant_id", "owner_id", "due_at", "id", postgresql_where=text("status = 'open'")),
        Index("task_due_idx", "tenant_id", "due_at", "id", postgresql_where=text("status = 'open'")),
        Index(None, "tenant_id", "person_id", "id"),
        Index(None, "tenant_id", "deal_id", "id"),
        Index(None, "tenant_id", "organization_id", "id"),
        _once("task"),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    erase="detach",
                    blanks={"title": "'(erased)'", "note": "NULL"},
                )
            )
        },
    )

    title: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="todo")
    note: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="open")
    due_at: Mapped[datetime | None]
    owner_id: Mapped[UUID | None]
    person_id: Mapped[UUID | None]
    organization_id: Mapped[UUID | None]
    deal_id: Mapped[UUID | None]
    closed_at: Mapped[datetime | None]
    """When it was done or cancelled."""
    source_key: Mapped[str | None] = mapped_column(Text(collation="C"))
    """`journey:ENROLLMENT:NODE:VISIT` where a journey made it."""
    created_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Notification(Created, TenantRow):
    """A line for one teammate to read."""

    __tablename__ = "notification"
    __table_args__ = (
        belongs_to("user_account", "user_id", ondelete="CASCADE"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "user_id", "id"),
        Index("notification_unread_idx", "tenant_id", "user_id", "id", postgresql_where=text("read_at IS NULL")),
        Index(None, "tenant_id", "person_id"),
        Index(None, "tenant_id", "deal_id"),
        _once("notification"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    user_id: Mapped[UUID]
    title: Mapped[str]
    body: Mapped[str | None]
    person_id: Mapped[UUID | None]
    deal_id: Mapped[UUID | None]
    read_at: Mapped[datetime | None]
    source_key: Mapped[str | None] = mapped_column(Text(collation="C"))
    """`journey:ENROLLMENT:NODE:VISIT:USER` where a journey made it."""


class OutgoingCall(Traced, Created, TenantRow):
    """A POST to an address of somebody else's, owed by a journey's node; made until it is answered, or given up."""

    __tablename__ = "outgoing_call"
    __table_args__ = (
        of_tenant(),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("status", CALL_STATUSES), name="status"),
        Index("outgoing_call_due_idx", "next_at", postgresql_where=text("status = 'pending'")),
        Index(None, "tenant_id", "person_id"),
        _once("outgoing_call"),
        {"info": system("SELECT, UPDATE") | of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    url: Mapped[str]
    body: Mapped[dict[str, Any]]
    person_id: Mapped[UUID | None]
    """Whom the body tells of."""
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Of the last attempt: `{"status": 503, "body": ...}`, or `{"error": ...}`."""
    finished_at: Mapped[datetime | None]
    source_key: Mapped[str] = mapped_column(Text(collation="C"))
    """`journey:ENROLLMENT:NODE:VISIT`."""
