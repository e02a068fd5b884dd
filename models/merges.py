"""Merged people and how to take a merge back; and pairs that may be one person."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, PrimaryKeyConstraint, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant
from models.identity import one_of

MERGE_SOURCES = ("api", "anonymous", "duplicate")
DUPLICATE_RUN_STATUSES = ("queued", "running", "finished", "failed", "cancelled")


class PersonAlias(Created, TenantRow):
    """The id of somebody merged away, and the living person it now means. Chains are collapsed."""

    __tablename__ = "person_alias"
    __table_args__ = (
        belongs_to("person", "person_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "person_id"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="delete"))},
    )

    person_id: Mapped[UUID]
    merge_id: Mapped[UUID]


class PersonMerge(Created, TenantRow):
    """One merge: what the loser was, and what it changed in the winner. It names people who may be gone since."""

    __tablename__ = "person_merge"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("source", MERGE_SOURCES), name="source"),
        Index(None, "tenant_id", "winner_id"),
        Index(None, "tenant_id", "loser_id"),
    )

    winner_id: Mapped[UUID]
    """As it was at the time; it may have been merged into another since."""
    loser_id: Mapped[UUID]
    source: Mapped[str]
    """Who asked: a caller, an anonymous visitor who became known, or a pair found to be duplicates."""
    actor: Mapped[str]
    loser: Mapped[dict[str, Any]]
    """The loser's row."""
    winner_changes: Mapped[dict[str, Any]]
    """`{"column": [before, after]}` of the winner's row."""
    counts: Mapped[dict[str, Any]]
    """Rows moved, by table."""
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[str | None]


class PersonMergeRow(TenantRow):
    """One row that a merge moved, changed or deleted."""

    __tablename__ = "person_merge_row"
    __table_args__ = (
        belongs_to("person_merge", "merge_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "merge_id", "table_name"),
    )

    merge_id: Mapped[UUID]
    table_name: Mapped[str]
    row_key: Mapped[dict[str, Any]]
    """The primary key without the tenant."""
    before: Mapped[dict[str, Any]]
    """What the merge changed in it, as it was; the whole row where it was deleted."""
    after: Mapped[dict[str, Any] | None]
    """The same columns as the merge left them; null where it deleted the row."""


class DuplicateRun(Created, TenantRow):
    """A search for people who are there twice; a tenant has one at a time."""

    __tablename__ = "duplicate_run"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("status", DUPLICATE_RUN_STATUSES), name="status"),
        Index(
            "duplicate_run_active_key",
            "tenant_id",
            unique=True,
            postgresql_where=text("status = 'queued' OR status = 'running'"),
        ),
    )

    status: Mapped[str] = mapped_column(server_default="queued")
    people: Mapped[int] = mapped_column(server_default=text("0"))
    """How many there were to look at."""
    scanned: Mapped[int] = mapped_column(server_default=text("0"))
    compared: Mapped[int] = mapped_column(server_default=text("0"))
    """Pairs compared; one that shares several keys may be compared under each."""
    skipped: Mapped[int] = mapped_column(server_default=text("0"))
    """Keys shared by so many people that they say nothing of who is who."""
    found: Mapped[int] = mapped_column(server_default=text("0"))
    """Candidates that nobody has dismissed."""
    position: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Where the search goes on after a crash."""
    error: Mapped[str | None]
    created_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class DuplicateBlock(Base):
    """A person under a key that duplicates would share; lives as long as the run."""

    __tablename__ = "duplicate_block"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "run_id", "block", "person_id"),
        belongs_to("duplicate_run", "run_id", ondelete="CASCADE"),
    )

    tenant_id: Mapped[UUID]
    run_id: Mapped[UUID]
    block: Mapped[str] = mapped_column(Text(collation="C"))
    """A hash of the key: the table holds nothing of the person."""
    person_id: Mapped[UUID]


class DuplicateCandidate(Created, TenantRow):
    """Two people who may be one: `person_a` is the lower id."""

    __tablename__ = "duplicate_candidate"
    __table_args__ = (
        belongs_to("person", "person_a", ondelete="CASCADE"),
        belongs_to("person", "person_b", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "person_a", "person_b"),
        CheckConstraint("person_a < person_b", name="order"),
        CheckConstraint(one_of("status", ("open", "dismissed")), name="status"),
        Index(None, "tenant_id", "person_b"),
        Index(None, "tenant_id", "status", "score", "id"),
        {
            "info": of_person(
                OfPerson(column="person_a", merge="drop", erase="delete"),
                OfPerson(column="person_b", merge="drop", erase="delete"),
            )
        },
    )

    person_a: Mapped[UUID]
    person_b: Mapped[UUID]
    score: Mapped[int] = mapped_column(Integer)
    """0 to 100."""
    reasons: Mapped[list[Any]]
    """`[{"field": ..., "rule": ..., "points": ...}]`, the strongest first; no values of the people."""
    status: Mapped[str] = mapped_column(server_default="open")
    run_id: Mapped[UUID | None]
    decided_by: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
