"""What journeys came to: who reached the goal."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import PrimaryKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, belongs_to


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
