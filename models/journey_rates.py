"""Nodes of journeys that let people on at a limited rate: the lines before them, and who has passed lately."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Index, Integer, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, belongs_to


class JourneyRateLimit(Base):
    """The line before a node that limits a rate: who changes it, lets on or queues, holds this row."""

    __tablename__ = "journey_rate_limit"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "journey_id", "node"),
        belongs_to("journey", "journey_id", ondelete="CASCADE"),
    )

    tenant_id: Mapped[UUID]
    journey_id: Mapped[UUID]
    node: Mapped[str]
    last_position: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the last who came."""
    count: Mapped[int | None]
    """How many by hand, in place of what the published version says."""
    per: Mapped[timedelta | None]
    """In how long, where `count` is set."""


class JourneyRateTicket(Base):
    """A member's place in the line. Whoever has moved on, or ended, leaves a ticket that is dropped when it is met."""

    __tablename__ = "journey_rate_ticket"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "enrollment_id", "node", "visit"),
        Index(None, "tenant_id", "journey_id", "node", "position"),
    )

    tenant_id: Mapped[UUID]
    enrollment_id: Mapped[UUID]
    node: Mapped[str]
    visit: Mapped[int] = mapped_column(Integer)
    journey_id: Mapped[UUID]
    position: Mapped[int]
    called_at: Mapped[datetime | None]
    """Since when it is this member's turn, where others came by and it did not."""


class JourneyRateRelease(Base):
    """How many a limited node let on, and when: kept as long as it counts."""

    __tablename__ = "journey_rate_release"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "journey_id", "node", "at"),)

    tenant_id: Mapped[UUID]
    journey_id: Mapped[UUID]
    node: Mapped[str]
    at: Mapped[datetime]
    """Rounded up, by less than a thousandth of the window."""
    count: Mapped[int]
