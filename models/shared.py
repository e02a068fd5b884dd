"""What every domain shares: the activity log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func
from sqlalchemy.orm import Mapped, mapped_column

from models.base import TenantRow


class Activity(TenantRow):
    """A change somebody made to an entity: who, what, before and after. Append-only for the application's role."""

    __tablename__ = "activity"
    __table_args__ = (Index(None, "tenant_id", "subject_type", "subject_id", "at"),)

    subject_type: Mapped[str]
    subject_id: Mapped[UUID]
    type: Mapped[str]
    """`noun.verb`, such as `person.updated`."""
    actor: Mapped[str]
    """`api_key:ID`, `journey:ID`, `system` or `cli`."""
    changes: Mapped[dict[str, Any]]
    """`{"field": [before, after]}`."""
    request_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
