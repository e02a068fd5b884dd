"""Segments: named sets of people, who is in them, and what keeps them fresh."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, Index, Integer, PrimaryKeyConstraint, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import one_of

REFRESH_STATUSES = ("queued", "running", "finished", "failed", "superseded")
REFRESH_CAUSES = ("created", "changed", "manual", "scheduled", "segment", "recovered")
MEMBER_SOURCES = ("rule", "manual", "import", "snapshot")


class Segment(Created, TenantRow):
    """A named set of people: static, or dynamic by rules or SQL."""

    __tablename__ = "segment"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint(one_of("kind", ("static", "dynamic")), name="kind"),
        CheckConstraint("num_nonnulls(rules, sql) = CASE kind WHEN 'static' THEN 0 ELSE 1 END", name="criteria"),
        {"info": system("SELECT")},
    )

    key: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    kind: Mapped[str]
    rules: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """A condition of the language (`docs/segments.md`)."""
    sql: Mapped[str | None]
    """SQL criteria as their author wrote them; see `services.marketing.criteria`."""
    refresh: Mapped[str] = mapped_column(server_default="manual")
    """`realtime`, `manual`, or a cron expression in the tenant's zone."""
    revision: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """Goes up with every change of what decides membership."""
    computed_revision: Mapped[int | None] = mapped_column(Integer)
    """The revision that the members were last computed by, for everybody."""
    computed_at: Mapped[datetime | None]
    """When that computation began: all that was committed before is in the membership."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SegmentMember(Base):
    """Who is in a segment now. Of a dynamic segment it is derived, and may be computed again at any time."""

    __tablename__ = "segment_member"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "segment_id", "person_id"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("source", MEMBER_SOURCES), name="source"),
        Index(None, "tenant_id", "person_id"),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    doubles="EXISTS (SELECT FROM segment_member w WHERE w.tenant_id = :tenant"
                    " AND w.segment_id = r.segment_id AND w.person_id = :winner)",
                    erase="delete",
                )
            )
        },
    )

    tenant_id: Mapped[UUID]
    segment_id: Mapped[UUID]
    """No foreign key: its price would be paid a million times; a segment is deleted with its members."""
    person_id: Mapped[UUID]
    entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    source: Mapped[str] = mapped_column(server_default="rule")


class SegmentFlip(Base):
    """When next, though nothing happens, the rules of a segment may decide otherwise about a person."""

    __tablename__ = "segment_flip"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "segment_id", "person_id"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        Index(None, "at"),
        Index(None, "tenant_id", "person_id"),
        {"info": system("SELECT, UPDATE") | of_person(OfPerson(column="person_id", merge="drop", erase="delete"))},
    )

    tenant_id: Mapped[UUID]
    segment_id: Mapped[UUID]
    person_id: Mapped[UUID]
    at: Mapped[datetime]


class SegmentDependency(Base):
    """What the rules of a segment speak of: the index from what happened to the segments it may concern."""

    __tablename__ = "segment_dependency"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "kind", "name", "segment_id"),
        belongs_to("segment", "segment_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "segment_id"),
    )

    tenant_id: Mapped[UUID]
    kind: Mapped[str]
    """`event`, `field`, `organization`, `order`, `record` or `segment`."""
    name: Mapped[str]
    """The event's type, the person's field, the object's or segment's key."""
    segment_id: Mapped[UUID]


class SegmentRefresh(Created, TenantRow):
    """One computation of a segment for everybody; a segment has one at a time."""

    __tablename__ = "segment_refresh"
    __table_args__ = (
        belongs_to("segment", "segment_id", ondelete="CASCADE"),
        CheckConstraint(one_of("status", REFRESH_STATUSES), name="status"),
        CheckConstraint(one_of("cause", REFRESH_CAUSES), name="cause"),
        Index(
            "segment_refresh_active_key",
            "tenant_id",
            "segment_id",
            unique=True,
            postgresql_where=text("status = 'queued' OR status = 'running'"),
        ),
        Index(None, "tenant_id", "segment_id", "id"),
        Index(
            "segment_refresh_stuck_idx",
            "updated_at",
            postgresql_where=text("status = 'queued' OR status = 'running'"),
        ),
        {"info": system("SELECT, UPDATE, DELETE")},
    )

    segment_id: Mapped[UUID]
    revision: Mapped[int] = mapped_column(Integer)
    """Of the segment whose members it computes."""
    cause: Mapped[str]
    quiet: Mapped[bool] = mapped_column(Boolean)
    """Whether its changes are told as one event with their counts rather than one by one: nobody did anything."""
    status: Mapped[str] = mapped_column(server_default="queued")
    position: Mapped[UUID | None]
    """The last person done: where it goes on after a crash."""
    people: Mapped[int] = mapped_column(server_default=text("0"))
    """How many were looked at so far."""
    entered: Mapped[int] = mapped_column(server_default=text("0"))
    departed: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None]
    created_by: Mapped[str]
    started_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class SegmentLag(Base):
    """How long changes took from their cause to the membership, counted by hour and size: the freshness to show."""

    __tablename__ = "segment_lag"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "hour", "bucket"),
        of_tenant(),
        {"info": system("SELECT, DELETE")},
    )

    tenant_id: Mapped[UUID]
    hour: Mapped[datetime]
    bucket: Mapped[int] = mapped_column(Integer)
    """Of a logarithmic histogram; see `services.marketing.segment_freshness`."""
    changes: Mapped[int]
