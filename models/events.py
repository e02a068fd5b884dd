"""The bus: events written with the change they report, and how far each consumer has read."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Identity, Index, Integer, PrimaryKeyConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from models.base import Base, Created, OfPerson, TenantRow, Traced, belongs_to, of_person, system
from models.identity import one_of

ON_MISMATCH = ("reject", "flag")


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's SQL name."""
        return "xid8"


class PgSnapshot(UserDefinedType[str]):
    """PostgreSQL's snapshot: which transactions were visible at a moment."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Return the type's SQL name."""
        return "pg_snapshot"


class Event(Traced, TenantRow):
    """An immutable fact about a subject."""

    __tablename__ = "event"
    __table_args__ = (
        belongs_to("person", "person_id"),
        Index(
            "event_idempotency_idx",
            "tenant_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("event_person_idx", "tenant_id", "person_id", "occurred_at", "id"),
        # how often somebody did something, without reading all that the person ever did; and who did it
        Index("event_type_idx", "tenant_id", "type", "person_id", "occurred_at"),
        # what happened to a record; of persons event_person_idx tells it
        Index(
            "event_record_idx",
            "tenant_id",
            "subject_id",
            "occurred_at",
            "id",
            postgresql_where=text("subject_type = 'record'"),
        ),
        Index("event_xid_idx", "xid"),
        Index("event_position_idx", "position"),
        {
            "info": system("SELECT")
            | of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    moves={"subject_id": "CASE WHEN r.subject_id = :loser THEN :winner ELSE r.subject_id END"},
                    erase="own",
                )
            )
        },
    )

    type: Mapped[str]
    subject_type: Mapped[str] = mapped_column(server_default="person")
    subject_id: Mapped[UUID]
    person_id: Mapped[UUID | None]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    live: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    """False for a backfilled event, or one older than a day on arrival: it counts, but starts and sends nothing."""
    idempotency_key: Mapped[str | None]
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True, cache=1))
    """Order of writing: what was written after another event was committed has the higher number."""
    xid: Mapped[int] = mapped_column(Xid8, server_default=text("pg_current_xact_id()"))
    """The writing transaction; with a snapshot it tells what a consumer has not yet been able to see."""


class ConsumerCursor(Base):
    """How far one consumer has read, over all tenants.

    Between `seen` and `target` lies one delta, read in pages by `position`; when it is exhausted `seen` becomes
    `target`.
    """

    __tablename__ = "consumer_cursor"
    __table_args__ = ({"info": system("SELECT, INSERT, UPDATE")},)

    consumer: Mapped[str] = mapped_column(primary_key=True)
    seen: Mapped[str] = mapped_column(PgSnapshot)
    target: Mapped[str | None] = mapped_column(PgSnapshot)
    position: Mapped[int | None] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeadEvent(Created, TenantRow):
    """An event that a consumer could not handle, set aside so that the others go on."""

    __tablename__ = "dead_event"
    __table_args__ = (
        Index(None, "tenant_id", "consumer", "event_id", unique=True),
        Index(
            "dead_event_replay_idx",
            "consumer",
            postgresql_where=text("replay_requested_at IS NOT NULL AND resolved_at IS NULL"),
        ),
        # how many there are, for operators, among all that ever were
        Index("dead_event_open_idx", "consumer", postgresql_where=text("resolved_at IS NULL")),
        {"info": system("SELECT, INSERT, UPDATE")},
    )

    consumer: Mapped[str]
    event_id: Mapped[UUID]
    error: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    replay_requested_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]


class EventTypeRow(TenantRow):
    """A type of event that the tenant has seen or declared."""

    __tablename__ = "event_type"
    __table_args__ = (
        Index(None, "tenant_id", "type", unique=True),
        # the few that events are held to, asked for again and again
        Index("event_type_declared_idx", "tenant_id", postgresql_where=text("declared_at IS NOT NULL")),
        CheckConstraint(one_of("on_mismatch", ON_MISMATCH), name="on_mismatch"),
        CheckConstraint(
            "(declared_at IS NULL) = (schema IS NULL) AND (declared_at IS NULL) = (on_mismatch IS NULL)",
            name="declared_at",
        ),
        {"info": system("SELECT, INSERT, UPDATE")},
    )

    type: Mapped[str]
    first_seen_at: Mapped[datetime | None]
    """When the first event of the type was received; null for one that was only declared."""
    last_seen_at: Mapped[datetime | None]
    description: Mapped[str | None]
    schema: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What the properties of events that clients send are held to."""
    on_mismatch: Mapped[str | None]
    declared_at: Mapped[datetime | None]
    flagged: Mapped[int] = mapped_column(server_default=text("0"))
    """Events that did not fit and were taken, since it was declared as it is now."""
    rejected: Mapped[int] = mapped_column(server_default=text("0"))
    misfit_at: Mapped[datetime | None]
    misfit: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What was wrong with the last that did not fit, field by field."""


class EventTypeDay(Base):
    """How many events of a type a tenant had on a day, in UTC."""

    __tablename__ = "event_type_day"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "type", "day"),
        Index(None, "day"),
        {"info": system("SELECT, INSERT, UPDATE, DELETE")},
    )

    tenant_id: Mapped[UUID]
    type: Mapped[str]
    day: Mapped[date]
    events: Mapped[int]
