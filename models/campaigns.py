"""Campaigns: what is to be sent to whom and when, each time it is, and what came of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, Index, Integer, SmallInteger, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, system
from models.identity import CHANNELS, one_of

CAMPAIGN_STATUSES = ("draft", "scheduled", "running", "paused", "finished", "cancelled")
RUN_STATUSES = ("scheduled", "running", "paused", "finished", "cancelled", "late", "failed")


class Campaign(Created, TenantRow):
    """A message for an audience, sent once or by a cron expression. What it says may be changed until it begins."""

    __tablename__ = "campaign"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint(one_of("channel", CHANNELS), name="channel"),
        CheckConstraint(one_of("status", CAMPAIGN_STATUSES), name="status"),
    )

    key: Mapped[str | None]
    """The tenant's own name for it, where it has one."""
    name: Mapped[str]
    channel: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="draft")
    audience: Mapped[dict[str, Any]]
    """`{"include": [segment ids], "exclude": [segment ids]}`."""
    variants: Mapped[list[Any]]
    """`[{"template_id", "share"}]`, one without a test."""
    test: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The A/B test: share, metric, wait, significance, holdout; null without."""
    schedule: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """When: `at` or `cron`, whose clock, what becomes of passed zones, when the audience is frozen; null until sent."""
    batches: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Gradual sending: so many recipients every so many minutes."""
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)
    lateness_minutes: Mapped[int | None] = mapped_column(Integer)
    """A run that could not begin for longer than this after its time does not begin at all."""
    utm: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`utm_` parameters of its links, without the prefix."""
    currency: Mapped[str | None] = mapped_column(CHAR(3))
    """Of budget and costs."""
    budget_minor: Mapped[int | None]
    fixed_cost_minor: Mapped[int] = mapped_column(server_default=text("0"))
    message_cost_micros: Mapped[int] = mapped_column(server_default=text("0"))
    """What one message costs, in millionths of the currency's unit."""
    created_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revision: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """Goes up with every change of what it says."""


class CampaignRun(Created, TenantRow):
    """One time that a campaign is sent: the only one, or one occurrence of a recurring one."""

    __tablename__ = "campaign_run"
    __table_args__ = (
        belongs_to("campaign", "campaign_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "campaign_id", "occurrence"),
        CheckConstraint(one_of("status", RUN_STATUSES), name="status"),
        {"info": system("SELECT")},
    )

    campaign_id: Mapped[UUID]
    occurrence: Mapped[str] = mapped_column(Text(collation="C"))
    """What tells it from the others of its campaign: the moment it was due, in UTC to the minute, or `once`."""
    status: Mapped[str] = mapped_column(server_default="scheduled")
    plan: Mapped[dict[str, Any]]
    """The campaign as it was when scheduled, with template versions; fixed from when its audience is being frozen."""
    due_at: Mapped[datetime]
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)
    """Changed while it runs."""
    position: Mapped[UUID | None]
    """The last person of the audience that was queued: where freezing goes on after a crash."""
    audience: Mapped[int] = mapped_column(server_default=text("0"))
    """How many people were in the audience when it was frozen."""
    frozen_at: Mapped[datetime | None]
    """When the whole audience had been queued."""
    winner: Mapped[int | None] = mapped_column(SmallInteger)
    """Index of the variant that the rest got."""
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """How the test was decided: counts, statistic, p-value, and `winner`, `no_difference` or `manual`."""
    reason: Mapped[str | None]
    """Why it is paused, late or failed: `manual`, `complaints`, `bounces`, `budget`, or an error."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Conversion(Created, TenantRow):
    """What a message brought: an order credited to the last touch before it. Derived, and may be computed again."""

    __tablename__ = "conversion"
    __table_args__ = (
        belongs_to("person", "person_id"),
        UniqueConstraint("tenant_id", "order_key"),
        Index(None, "tenant_id", "campaign_id"),
        Index(None, "tenant_id", "person_id"),
        # a journey's results are of its own passages, among the orders of all
        Index(
            "conversion_enrollment_idx",
            "tenant_id",
            "enrollment_id",
            postgresql_where=text("enrollment_id IS NOT NULL"),
        ),
        CheckConstraint(one_of("touch", ("click", "open", "delivery")), name="touch"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="detach"))},
    )

    person_id: Mapped[UUID | None]
    """Null once the person was erased."""
    order_key: Mapped[str]
    message_id: Mapped[UUID]
    campaign_id: Mapped[UUID | None]
    enrollment_id: Mapped[UUID | None]
    channel: Mapped[str]
    touch: Mapped[str]
    touched_at: Mapped[datetime]
    converted_at: Mapped[datetime]
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount_minor: Mapped[int]
    """The order's total without what was refunded."""
