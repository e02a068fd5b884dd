"""Simulations of journeys: what was asked, what came of it, and some passages as they would be."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, PrimaryKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, system
from models.identity import one_of

SIMULATION_STATUSES = ("queued", "running", "done", "failed")


class JourneySimulation(Created, TenantRow):
    """A simulation of a definition of a journey."""

    __tablename__ = "journey_simulation"
    __table_args__ = (
        belongs_to("journey", "journey_id", ondelete="CASCADE"),
        CheckConstraint(one_of("status", SIMULATION_STATUSES), name="status"),
        Index(None, "tenant_id", "journey_id", "id"),
        Index(None, "created_at"),
        {"info": system("SELECT, DELETE")},
    )

    journey_id: Mapped[UUID]
    version_id: Mapped[UUID | None]
    """The published version that it is of; NULL for a draft."""
    definition: Mapped[dict[str, Any]]
    """What was simulated, as it was then."""
    request: Mapped[dict[str, Any]]
    """What was asked; people named one by one are forgotten when it is over."""
    status: Mapped[str] = mapped_column(server_default="queued")
    problem: Mapped[str | None]
    """Why it failed."""
    report: Mapped[dict[str, Any] | None]
    created_by: Mapped[str]
    finished_at: Mapped[datetime | None]


class JourneySimulationSample(Base):
    """A passage through a journey as it would be."""

    __tablename__ = "journey_simulation_sample"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "simulation_id", "number"),
        belongs_to("journey_simulation", "simulation_id", ondelete="CASCADE"),
        belongs_to("person", "person_id"),
        Index(None, "tenant_id", "person_id"),
        {
            "info": of_person(OfPerson(column="person_id", merge="move", erase="delete")),
        },
    )

    tenant_id: Mapped[UUID]
    simulation_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    person_id: Mapped[UUID]
    steps: Mapped[list[Any]]
