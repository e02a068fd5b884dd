"""Which processes of the deployment run."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, system


class ProcessBeat(Base):
    """A process that was there at `seen_at`; it says so every minute, and takes the row with it when it ends."""

    __tablename__ = "process_beat"
    __table_args__ = ({"info": system("SELECT, INSERT, UPDATE, DELETE"), "postgresql_with": {"fillfactor": "50"}},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """`api`, `worker`, `relay`, `sender` or `inbound`."""
    facts: Mapped[dict[str, Any]]
    """Host, process id, domain, version, a fingerprint of its secret, and how far its clock is ahead."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
