"""What journeys came to: who reached the goal, and which message won."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, TenantRow, belongs_to
from models.identity import one_of


class JourneyConversion(Base):
    """The first time that somebody who entered a journey reached its goal, in the passage or after it had ended."""

    __tablename__ = "journey_conversion"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "enrollment_id"),
        belongs_to("enrollment", "enrollment_id", ondelete="CASCADE"),
    )

    tenant_id: Mapped[UUID]
    enrollment_id: Mapped[UUID]
    """Names the person too, so that merging and erasing them is the enrollment's business."""
    converted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    event_id: Mapped[UUID | None]
    """The event that was the goal's; null where a goal node was reached."""
    node: Mapped[str | None]
    """The goal node that was reached."""


class JourneyTest(TenantRow):
    """A test of messages at a node that names a winner: begun by whom it is sent to first, decided once."""

    __tablename__ = "journey_test"
    __table_args__ = (
        belongs_to("journey", "journey_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "journey_id", "node", "tried"),
        CheckConstraint(one_of("outcome", ("winner", "no_difference")), name="outcome"),
    )

    journey_id: Mapped[UUID]
    node: Mapped[str]
    tried: Mapped[str]
    """The variants with their templates: a version that tries others begins another test."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    look_at: Mapped[datetime | None]
    """Too few had been sent to when it was due: it is looked at again then."""
    decided_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    winner: Mapped[str | None]
    """Key of the variant that all later people get; null where there is no difference."""
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """How it was decided: counts, rates, intervals, comparisons."""
