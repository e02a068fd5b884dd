"""Sales: pipelines with their stages and automation, deals and where they have been, rates to the base currency.

The views that other domains read: `crm_deal_facts`, a row for each deal, and `crm_deal_people`, who is linked to it.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    Boolean,
    CheckConstraint,
    Computed,
    Date,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, set_null
from models.identity import one_of

STAGE_KINDS = ("open", "won", "lost")
DEAL_STATUSES = STAGE_KINDS
"""A deal's status is the kind of its stage."""
INTERVALS = ("month", "quarter", "year")
AUTOMATION_TRIGGERS = ("enter", "leave", "after", "rotting")


class Pipeline(Created, TenantRow):
    """A way of selling: an order of stages."""

    __tablename__ = "pipeline"
    __table_args__ = (
        of_tenant(),
        Index("pipeline_key", "tenant_id", "key", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    key: Mapped[str]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    deleted_at: Mapped[datetime | None]
    """Set: no deal is in it any more, but histories of deals name its stages."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PipelineStage(Created, TenantRow):
    """A stage that deals of a pipeline stand in."""

    __tablename__ = "pipeline_stage"
    __table_args__ = (
        belongs_to("pipeline", "pipeline_id"),
        Index(
            "pipeline_stage_key",
            "tenant_id",
            "pipeline_id",
            "key",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        CheckConstraint(one_of("kind", STAGE_KINDS), name="kind"),
        CheckConstraint("probability BETWEEN 0 AND 100", name="probability"),
        CheckConstraint("rotting_days > 0", name="rotting_days"),
    )

    pipeline_id: Mapped[UUID]
    key: Mapped[str]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(server_default="open")
    probability: Mapped[int] = mapped_column(Integer)
    """Percent of such deals that are won: what the forecast weighs them by, where a deal says nothing itself."""
    required_fields: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """Fields a deal must have to enter, such as `amount`, `close_date` or `attributes.budget`."""
    allowed_moves: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Keys of the stages a deal may go to from here; null: any."""
    rotting_days: Mapped[int | None] = mapped_column(Integer)
    """A deal rots when nothing was done about it for so many days."""
    deleted_at: Mapped[datetime | None]


class StageAutomation(Created, TenantRow):
    """What happens by itself to deals of a stage: a journey with subject `deal`."""

    __tablename__ = "stage_automation"
    __table_args__ = (
        belongs_to("pipeline_stage", "stage_id"),
        belongs_to("journey", "journey_id"),
        UniqueConstraint("tenant_id", "stage_id", "key"),
        Index(None, "tenant_id", "journey_id", unique=True),
        CheckConstraint(one_of("trigger", AUTOMATION_TRIGGERS), name="trigger"),
    )

    stage_id: Mapped[UUID]
    key: Mapped[str]
    trigger: Mapped[str]
    written: Mapped[dict[str, Any]]
    """The rule as its author wrote it; the journey's versions hold what is walked."""
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    journey_id: Mapped[UUID]


class Deal(Created, TenantRow):
    """A sale that may come about."""

    __tablename__ = "deal"
    __table_args__ = (
        belongs_to("pipeline", "pipeline_id"),
        belongs_to("pipeline_stage", "stage_id"),
        belongs_to("person", "person_id"),
        belongs_to("organization", "organization_id"),
        set_null("user_account", "owner_id"),
        CheckConstraint(one_of("status", DEAL_STATUSES), name="status"),
        CheckConstraint(one_of("recurring_interval", INTERVALS), name="recurring_interval"),
        CheckConstraint("probability BETWEEN 0 AND 100", name="probability"),
        CheckConstraint("amount_minor >= 0", name="amount"),
        CheckConstraint("recurring_term_months > 0", name="recurring_term"),
        CheckConstraint("(closed_at IS NULL) = (status = 'open')", name="closed_at"),
        # as the brief has it: the board and the forecast read open deals by it
        Index("deal_status_idx", "tenant_id", "status", "close_date"),
        Index("deal_stage_idx", "tenant_id", "stage_id", "id"),
        Index("deal_pipeline_idx", "tenant_id", "pipeline_id", "id"),
        Index("deal_person_idx", "tenant_id", "person_id", "id"),
        Index("deal_organization_idx", "tenant_id", "organization_id", "id"),
        Index("deal_owner_idx", "tenant_id", "owner_id", "id"),
        Index("deal_title_idx", "tenant_id", "title_key"),
        Index("deal_closed_idx", "tenant_id", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
        *(
            Index(
                f"deal_{column}_idx", "tenant_id", column, unique=True, postgresql_where=text(f"{column} IS NOT NULL")
            )
            for column in ("external_id", "source_key")
        ),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    erase="detach",
                    # a company's deal keeps its title
                    blanks={
                        "title": "CASE WHEN r.organization_id IS NULL THEN '(erased)' ELSE r.title END",
                        "attributes": "CASE WHEN r.organization_id IS NULL THEN '{}'::jsonb ELSE r.attributes END",
                    },
                )
            )
        },
    )

    title: Mapped[str]
    title_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("lower(title)", persisted=True), deferred=True)
    """What a search by the beginning of a title compares."""
    pipeline_id: Mapped[UUID]
    stage_id: Mapped[UUID]
    status: Mapped[str] = mapped_column(server_default="open")
    person_id: Mapped[UUID | None]
    """The primary person."""
    organization_id: Mapped[UUID | None]
    owner_id: Mapped[UUID | None]
    amount_minor: Mapped[int] = mapped_column(server_default=text("0"))
    currency: Mapped[str] = mapped_column(CHAR(3))
    base_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """The amount in the tenant's base currency: of an open deal by the newest rate, of a closed one by that day's."""
    recurring_minor: Mapped[int | None]
    """What is paid again every `recurring_interval`, in the deal's currency."""
    recurring_interval: Mapped[str | None]
    recurring_term_months: Mapped[int | None] = mapped_column(Integer)
    probability: Mapped[int | None] = mapped_column(Integer)
    """Percent; null: the stage's."""
    close_date: Mapped[date | None] = mapped_column(Date)
    """When it is expected to close."""
    closed_at: Mapped[datetime | None]
    lost_reason: Mapped[str | None]
    competitors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """`[{"name": ..., "note": ...}]`."""
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    source: Mapped[str | None]
    external_id: Mapped[str | None] = mapped_column(Text(collation="C"))
    source_key: Mapped[str | None] = mapped_column(Text(collation="C"))
    """What made it, where that may be repeated: `journey:ENROLLMENT:NODE:VISIT`."""
    stage_entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When something was last done about it: it rots from then."""
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """Grows with every change: a caller that names an older one is refused."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DealStageEntry(TenantRow):
    """A deal's stay in a stage. A deal's stays follow each other without gap from its beginning."""

    __tablename__ = "deal_stage_entry"
    __table_args__ = (
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "deal_id", "number"),
        Index(None, "tenant_id", "stage_id", "entered_at"),
        Index(
            "deal_stage_entry_open_key", "tenant_id", "deal_id", unique=True, postgresql_where=text("left_at IS NULL")
        ),
    )

    deal_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    """From 1."""
    pipeline_id: Mapped[UUID]
    stage_id: Mapped[UUID]
    entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    left_at: Mapped[datetime | None]
    """Equals the next one's `entered_at`; null where the deal is now."""
    actor: Mapped[str]


class DealContact(Created, TenantRow):
    """A person beside the primary one who has a part in a deal."""

    __tablename__ = "deal_contact"
    __table_args__ = (
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        belongs_to("person", "person_id"),
        UniqueConstraint("tenant_id", "deal_id", "person_id"),
        Index(None, "tenant_id", "person_id"),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    # the winner is a contact already, or the primary person
                    doubles="EXISTS (SELECT FROM deal_contact w WHERE w.tenant_id = :tenant"
                    " AND w.deal_id = r.deal_id AND w.person_id = :winner)"
                    " OR EXISTS (SELECT FROM deal d WHERE d.tenant_id = :tenant"
                    " AND d.id = r.deal_id AND d.person_id = :winner)",
                    erase="delete",
                )
            )
        },
    )

    deal_id: Mapped[UUID]
    person_id: Mapped[UUID]
    role: Mapped[str | None]
    """Such as `decision_maker`, `champion` or `billing`."""


class DealLine(Created, TenantRow):
    """Some pieces of a product that a deal is about."""

    __tablename__ = "deal_line"
    __table_args__ = (
        belongs_to("deal", "deal_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "deal_id", "number"),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("discount_minor BETWEEN 0 AND quantity * unit_minor", name="discount"),
    )

    deal_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    sku: Mapped[str | None]
    name: Mapped[str]
    quantity: Mapped[int] = mapped_column(Integer)
    unit_minor: Mapped[int]
    """Price of one, in the deal's currency."""
    discount_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """Off the whole line."""
    recurring: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class ExchangeRate(Created, Base):
    """What one unit of a currency is worth in the tenant's base currency, from a day on until the next rate."""

    __tablename__ = "exchange_rate"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "base", "currency", "valid_from"),
        of_tenant(),
        CheckConstraint("rate > 0", name="rate"),
    )

    tenant_id: Mapped[UUID]
    base: Mapped[str] = mapped_column(CHAR(3))
    currency: Mapped[str] = mapped_column(CHAR(3))
    valid_from: Mapped[date] = mapped_column(Date)
    rate: Mapped[Decimal] = mapped_column(Numeric(24, 12))


class OwnerRotation(Base):
    """Whose turn it is where owners are given in turns."""

    __tablename__ = "owner_rotation"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "key"), of_tenant())

    tenant_id: Mapped[UUID]
    key: Mapped[str] = mapped_column(Text(collation="C"))
    """`JOURNEY:NODE`."""
    turn: Mapped[int] = mapped_column(server_default=text("0"))
    """How many were given so far."""
