"""Erasures: that somebody was erased, without who it was."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Uuid

from models.base import Created, TenantRow, of_tenant
from models.identity import one_of


class Erasure(Created, TenantRow):
    """One erasure: the store is done when the row is there; what lies outside it follows."""

    __tablename__ = "erasure"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("status", ("running", "finished")), name="status"),
        Index(None, "tenant_id", "person_id"),
    )

    person_id: Mapped[UUID]
    """The id alone, which leads nowhere any more."""
    status: Mapped[str] = mapped_column(server_default="running")
    requested_by: Mapped[str]
    request_id: Mapped[str | None]
    counts: Mapped[dict[str, Any]]
    """Rows deleted, detached or redacted, by table."""
    message_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    """Whose mail files are to be deleted; emptied when they are."""
    finished_at: Mapped[datetime | None]
