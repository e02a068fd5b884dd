"""What every domain shares: the activity log, and workflows and schedules owed to Temporal."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Index, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, OfPerson, TenantRow, Traced, of_person, of_tenant, system

BY_USER = text("actor LIKE 'user:%'")
"""Says it of an entry word for word as the index does: so Postgres knows that it may use it."""


class Activity(TenantRow):
    """A change somebody made to an entity: who, what, before and after. Append-only for the application's role."""

    __tablename__ = "activity"
    __table_args__ = (
        Index(None, "tenant_id", "subject_type", "subject_id", "at"),
        # what one teammate did, among millions of entries of imports and keys
        Index("activity_user_idx", "tenant_id", "actor", "id", postgresql_where=BY_USER),
        # the log says what was done to whom at the time, so a merge leaves it alone
        {
            "info": of_person(
                OfPerson(
                    column="subject_id",
                    merge="stay",
                    rows="r.subject_type = 'person' AND r.subject_id = :person",
                    erase="own",
                )
            )
        },
    )

    subject_type: Mapped[str]
    subject_id: Mapped[UUID]
    type: Mapped[str]
    """`noun.verb`, such as `person.updated`."""
    actor: Mapped[str]
    """`api_key:ID`, `user:ID`, `journey:ID`, `message:ID`, `import:ID`, `form:ID`, `system` or `cli`."""
    changes: Mapped[dict[str, Any]]
    """`{"field": [before, after]}`."""
    request_id: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class WorkflowStart(Traced, Created, TenantRow):
    """A workflow owed to Temporal: committed with its cause, started by its id, then deleted."""

    __tablename__ = "workflow_start"
    __table_args__ = (of_tenant(), {"info": system("SELECT, UPDATE, DELETE")})

    workflow: Mapped[str]
    """The workflow type's name."""
    workflow_id: Mapped[str]
    queue: Mapped[str]
    domain: Mapped[str]
    input: Mapped[dict[str, Any]]
    signal: Mapped[str | None]
    """Sent to it where it runs already."""


class WorkflowSchedule(Created, TenantRow):
    """A schedule as Temporal is to have it, committed with its cause; the relay brings Temporal in line.

    Its id is that of the entity it is for; in Temporal it is called `workflow/tenant/entity`, as is what it starts,
    with the time of each start behind.
    """

    __tablename__ = "workflow_schedule"
    __table_args__ = (
        of_tenant(),
        Index(
            "workflow_schedule_owed_idx",
            "created_at",
            postgresql_where=text("applied_revision IS DISTINCT FROM revision"),
        ),
        {"info": system("SELECT, UPDATE, DELETE")},
    )

    workflow: Mapped[str]
    """The workflow type's name."""
    queue: Mapped[str]
    domain: Mapped[str]
    input: Mapped[dict[str, Any]]
    cron: Mapped[str]
    time_zone: Mapped[str]
    wanted: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    """False when Temporal is to forget it; the row goes with it."""
    revision: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    applied_revision: Mapped[int | None] = mapped_column(Integer)
    """What Temporal has."""
