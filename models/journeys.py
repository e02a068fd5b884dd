"""Journeys, their versions, and the passage of cohorts of people through them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, Traced, belongs_to, of_person, of_tenant, system
from models.identity import one_of

JOURNEY_DOMAINS = ("marketing", "crm")
SUBJECTS = ("person", "deal")
JOURNEY_STATUSES = ("draft", "active", "paused", "cancelled")
SKIPS = ("node", "sends")
MIGRATION_STATUSES = ("running", "done", "superseded", "failed")
STUCK = ("closed", "gone", "still")
ENROLLMENT_STATUSES = ("active", "waiting", "completed", "exited", "failed")

_WINNERS = (
    "EXISTS (SELECT FROM enrollment w WHERE w.tenant_id = :tenant AND w.subject_id = :winner"
    " AND w.journey_id = r.journey_id AND w.subject_type = r.subject_type AND w.entry_key = r.entry_key AND {which})"
)
_BOTH_INSIDE = "r.ended_at IS NULL AND NOT r.overlapping AND r.subject_id = :loser AND " + _WINNERS.format(
    which="w.ended_at IS NULL AND NOT w.overlapping"
)
"""A journey that lets a person in once at a time has both of them: the winner's passage goes on."""
_OF_THEMSELVES = "CASE WHEN r.subject_type = 'person' THEN {gone} ELSE r.{column} END"
_ENDS = "CASE WHEN r.subject_type = 'person' AND r.ended_at IS NULL THEN {gone} ELSE r.{column} END"


class Journey(Created, TenantRow):
    """An automation: its draft, and which published version people now enter."""

    __tablename__ = "journey"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint(one_of("status", JOURNEY_STATUSES), name="status"),
        CheckConstraint(one_of("domain", JOURNEY_DOMAINS), name="domain"),
    )

    key: Mapped[str]
    name: Mapped[str]
    domain: Mapped[str] = mapped_column(server_default="marketing")
    """Whose it is: marketers' own, or a pipeline's automation (`crm`), which is written with its stage."""
    status: Mapped[str] = mapped_column(server_default="draft")
    draft: Mapped[dict[str, Any]]
    active_version_id: Mapped[UUID | None]
    entry_paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """True while an active journey takes nobody in."""
    sends_paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """True while members of an active journey are held at the nodes that send, and there alone."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JourneyVersion(Created, TenantRow):
    """A published definition; never changed."""

    __tablename__ = "journey_version"
    __table_args__ = (
        belongs_to("journey", "journey_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "journey_id", "number"),
        {"info": system("SELECT")},
    )

    journey_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    definition: Mapped[dict[str, Any]]
    published_by: Mapped[str]


class JourneyListener(Base):
    """Which published versions an event type concerns: as entry, goal or exit."""

    __tablename__ = "journey_listener"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "event_type", "version_id", "kind", "ordinal"),
        belongs_to("journey_version", "version_id", ondelete="CASCADE"),
        CheckConstraint(one_of("kind", ("entry", "goal", "exit")), name="kind"),
        CheckConstraint(one_of("subject", SUBJECTS), name="subject"),
    )

    tenant_id: Mapped[UUID]
    event_type: Mapped[str]
    version_id: Mapped[UUID]
    kind: Mapped[str]
    ordinal: Mapped[int] = mapped_column(Integer)
    """Position in the definition's list of entries or exit conditions."""
    journey_id: Mapped[UUID]
    subject: Mapped[str] = mapped_column(server_default="person")
    """Whom an event must concern."""


class Cohort(Traced, Created, TenantRow):
    """1..N enrollments that one workflow walks together; committed before the workflow is started."""

    __tablename__ = "cohort"
    __table_args__ = (
        belongs_to("journey_version", "version_id"),
        Index(None, "tenant_id", "journey_id", "id"),
        Index("cohort_unstarted_idx", "created_at", postgresql_where=text("started_at IS NULL")),
        Index("cohort_open_idx", "tenant_id", "id", postgresql_where=text("emptied_at IS NULL")),
        Index("cohort_stuck_idx", "tenant_id", "journey_id", "id", postgresql_where=text("stuck IS NOT NULL")),
        CheckConstraint(one_of("stuck", STUCK), name="stuck"),
        CheckConstraint(one_of("domain", JOURNEY_DOMAINS), name="domain"),
        {"info": system("SELECT, UPDATE")},
    )

    journey_id: Mapped[UUID]
    version_id: Mapped[UUID]
    size: Mapped[int] = mapped_column(Integer)
    source: Mapped[str]
    """`event`, `api`, `manual`, `journey`, `date`, `cron` or `import`."""
    domain: Mapped[str] = mapped_column(server_default="marketing")
    """Its journey's: whose worker walks it."""
    request: Mapped[UUID | None]
    """The request that lets a whole segment in, page by page: sent again, it knows what it has done."""
    started_at: Mapped[datetime | None]
    rehomed: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """True where the members were inside before: its workflow begins with where they stand."""
    migration_id: Mapped[UUID | None]
    """The migration that brought the members to its version."""
    emptied_at: Mapped[datetime | None]
    """When it was seen that nobody is inside any more; that is for good."""
    stuck: Mapped[str | None]
    """What was found wrong with its workflow while somebody is inside."""
    stuck_since: Mapped[datetime | None]


class JourneyMigration(Created, TenantRow):
    """The moving of those inside a journey to a version, page by page, by the plan it was published with."""

    __tablename__ = "journey_migration"
    __table_args__ = (
        belongs_to("journey_version", "version_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "journey_id", "id"),
        CheckConstraint(one_of("status", MIGRATION_STATUSES), name="status"),
    )

    journey_id: Mapped[UUID]
    version_id: Mapped[UUID]
    """Where they go."""
    status: Mapped[str] = mapped_column(server_default="running")
    plan: Mapped[dict[str, Any]]
    """By node: `{"do": ..., "to": ...}`; a node it does not name goes to the one of the same name, re-timed."""
    inside: Mapped[int] = mapped_column(Integer)
    """How many were in older versions when it began."""
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """How many finish, were moved, re-timed and ejected, so far."""
    after_cohort: Mapped[UUID | None]
    after_slot: Mapped[int | None] = mapped_column(Integer)
    """Everybody up to this place, in the order of cohorts, has been dealt with."""
    error: Mapped[str | None]
    """Why it cannot go on, as a code."""
    started_by: Mapped[str]
    finished_at: Mapped[datetime | None]


class Enrollment(TenantRow):
    """One subject's passage through a journey. The workflow decides where it goes; this row says where it is."""

    __tablename__ = "enrollment"
    __table_args__ = (
        belongs_to("person", "person_id"),
        CheckConstraint(one_of("status", ENROLLMENT_STATUSES), name="status"),
        CheckConstraint(one_of("skip", SKIPS), name="skip"),
        UniqueConstraint("tenant_id", "cohort_id", "slot"),
        Index(
            "enrollment_open_idx",
            "tenant_id",
            "journey_id",
            "subject_type",
            "subject_id",
            "entry_key",
            unique=True,
            postgresql_where=text("ended_at IS NULL AND NOT overlapping"),
        ),
        Index(
            "enrollment_once_idx",
            "tenant_id",
            "journey_id",
            "subject_type",
            "subject_id",
            "entry_key",
            unique=True,
            postgresql_where=text("once"),
        ),
        Index("enrollment_subject_idx", "tenant_id", "subject_id", "journey_id", "entered_at"),
        Index(None, "tenant_id", "person_id"),  # a merge and an erasure find them, and so does the foreign key
        {
            "postgresql_with": {"fillfactor": "50"},  # several updates a passage; the free half keeps them HOT
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    moves={
                        "subject_id": "CASE WHEN r.subject_id = :loser THEN :winner ELSE r.subject_id END",
                        "once": f"r.once AND NOT {_WINNERS.format(which='w.once')}",
                    },
                    settles={
                        "status": f"CASE WHEN {_BOTH_INSIDE} THEN 'exited' ELSE r.status END",
                        "ended_at": f"CASE WHEN {_BOTH_INSIDE} THEN now() ELSE r.ended_at END",
                        "reason": f"CASE WHEN {_BOTH_INSIDE} THEN 'merged' ELSE r.reason END",
                    },
                    erase="detach",
                    blanks={
                        "subject_id": "CASE WHEN r.subject_id = :person THEN r.id ELSE r.subject_id END",
                        # a deal goes on without its person
                        "entry": _OF_THEMSELVES.format(gone="'{}'::jsonb", column="entry"),
                        "entry_key": _OF_THEMSELVES.format(gone="''", column="entry_key"),
                        "problem": "NULL",
                        "status": _ENDS.format(gone="'exited'", column="status"),
                        "reason": _ENDS.format(gone="'erased'", column="reason"),
                        "ended_at": _ENDS.format(gone="now()", column="ended_at"),
                    },
                )
            ),
        },
    )

    journey_id: Mapped[UUID]
    version_id: Mapped[UUID]
    cohort_id: Mapped[UUID]
    slot: Mapped[int] = mapped_column(Integer)
    """Number in the cohort, from 0: what a workflow calls this enrollment."""
    subject_type: Mapped[str]
    subject_id: Mapped[UUID]
    person_id: Mapped[UUID | None]
    entry_key: Mapped[str] = mapped_column(server_default="")
    overlapping: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """True where the journey allows entry `always`: several may be open at once."""
    once: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """True where the journey allows entry `never` again: no second such row is taken, open or not."""
    entry: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """The entry event's properties."""
    entry_event_id: Mapped[UUID | None]
    entry_position: Mapped[int] = mapped_column(server_default=text("0"))
    """Position of the entry event: only later events reach the goal or an exit condition."""
    status: Mapped[str] = mapped_column(server_default="active")
    node: Mapped[str]
    visit: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    node_entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    wake_at: Mapped[datetime | None]
    """Until when the member waits at its node as planned, to the clocks' difference; None where no time is planned.
    Never indexed: nearly every move changes it. A passage that ends in mid-wait keeps it."""
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    """Why it ended: the exit node's reason, `goal`, `exit_when`, `cancelled`, or what the API gave."""
    problem: Mapped[dict[str, Any] | None]
    """Why the member is parked (status `failed`): `{"error": ..., "attempt": n}`."""
    skip: Mapped[str | None]
    """What the member passes without its doing: `node`, where it stands; `sends`, those before its next wait."""

    @property
    def deal_id(self) -> UUID | None:
        """The deal that passes; None where a person does."""
        return self.subject_id if self.subject_type == "deal" else None


class EnrollmentStep(Base):
    """One node passed: written once, in the transaction of the node's effect."""

    __tablename__ = "enrollment_step"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit"),)

    tenant_id: Mapped[UUID]
    enrollment_id: Mapped[UUID]
    node: Mapped[str]
    visit: Mapped[int] = mapped_column(Integer)
    entered_at: Mapped[datetime]
    left_at: Mapped[datetime] = mapped_column(server_default=func.now())
    outcome: Mapped[str]
    """Which way out: `done`, `elapsed`, `matched`, `timed_out`, `branch_0`..., `otherwise`."""
    attempt: Mapped[int] = mapped_column(Integer)
    detail: Mapped[dict[str, Any] | None]
    """What the outcome rests on: the matched event, values seen by a branch, why a message was not sent."""


class JourneyRefusal(Base):
    """Whom a journey did not let in, and why: of each subject and reason the last time, and how often."""

    __tablename__ = "journey_refusal"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "subject_id", "journey_id", "reason"),
        belongs_to("journey", "journey_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "journey_id", "reason"),
        {
            "postgresql_with": {"fillfactor": "70"},  # whoever is refused once is refused again: room for the update
            "info": system("SELECT, DELETE")
            | of_person(
                OfPerson(
                    column="subject_id",
                    merge="move",
                    doubles="EXISTS (SELECT FROM journey_refusal w WHERE w.tenant_id = :tenant"
                    " AND w.subject_id = :winner AND w.journey_id = r.journey_id AND w.reason = r.reason)",
                    erase="delete",
                )
            ),
        },
    )

    tenant_id: Mapped[UUID]
    subject_id: Mapped[UUID]
    """A person or a deal, as the journey has it."""
    journey_id: Mapped[UUID]
    version_id: Mapped[UUID]
    """The one that they would have entered."""
    reason: Mapped[str]
    """As `services.journeys.enrollments.enroll` counts them."""
    event_id: Mapped[UUID | None]
    """The event that would have been their entry."""
    times: Mapped[int] = mapped_column(server_default=text("1"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Waiter(Base):
    """A member parked at `wait_for_event`; marked matched by the relay, deleted when the node is left."""

    __tablename__ = "waiter"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit"),
        Index(
            "waiter_event_idx",
            "tenant_id",
            "event_type",
            "subject_id",
            postgresql_where=text("matched_event_id IS NULL"),
        ),
        {
            "info": of_person(
                OfPerson(
                    column="subject_id",
                    merge="move",
                    rows="r.subject_id = :person AND r.enrollment_id IN"
                    " (SELECT e.id FROM enrollment e WHERE e.tenant_id = :tenant AND e.subject_id = :person)",
                    erase="delete",
                )
            )
        },
    )

    tenant_id: Mapped[UUID]
    enrollment_id: Mapped[UUID]
    node: Mapped[str]
    visit: Mapped[int] = mapped_column(Integer)
    cohort_id: Mapped[UUID]
    slot: Mapped[int] = mapped_column(Integer)
    version_id: Mapped[UUID]
    event_type: Mapped[str]
    subject_id: Mapped[UUID]
    match: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    """Properties the event must carry, with the values taken from the entry event."""
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    since_position: Mapped[int] = mapped_column(server_default=text("0"))
    """Only an event received after `since`, and written after `since_position`, counts."""
    matched_event_id: Mapped[UUID | None]


class CohortSignal(Traced, Created, TenantRow):
    """A signal owed to a cohort's workflow, committed with its cause and deleted once delivered."""

    __tablename__ = "cohort_signal"
    __table_args__ = (Index(None, "position"), {"info": system("SELECT, DELETE")})

    journey_id: Mapped[UUID]
    cohort_id: Mapped[UUID]
    kind: Mapped[str]
    """`matched`, `leave`, `hold`, `release`, `retry` or `replan`."""
    payload: Mapped[dict[str, Any]]
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True, cache=1))
    """Order of delivery: drawn while the causing rows are locked, so of two changes of a member the later is higher."""
