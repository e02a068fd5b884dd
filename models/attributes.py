"""What a tenant's own fields mean, and how people are scored."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, TenantRow, of_tenant, system
from models.identity import one_of

ATTRIBUTE_TYPES = ("text", "number", "boolean", "date", "datetime", "choice", "list")
ATTRIBUTE_SUBJECTS = ("person", "organization")


class AttributeDefinition(Created, TenantRow):
    """What one attribute of people or organizations may hold."""

    __tablename__ = "attribute_definition"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "subject_type", "key"),
        CheckConstraint(one_of("subject_type", ATTRIBUTE_SUBJECTS), name="subject_type"),
        CheckConstraint(one_of("type", ATTRIBUTE_TYPES), name="type"),
    )

    subject_type: Mapped[str]
    key: Mapped[str]
    label: Mapped[str]
    description: Mapped[str | None]
    type: Mapped[str]
    choices: Mapped[list[Any] | None]
    """Of type `choice`: what is allowed. Of type `list`: what its items may be, or null for any text."""
    minimum: Mapped[float | None]
    maximum: Mapped[float | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ScoreRule(Created, TenantRow):
    """Points for people of whom a condition holds."""

    __tablename__ = "score_rule"
    __table_args__ = (of_tenant(), UniqueConstraint("tenant_id", "key"), {"info": system("SELECT")})

    key: Mapped[str]
    name: Mapped[str]
    condition: Mapped[dict[str, Any]]
    """A condition of the language (`docs/journeys.md`)."""
    points: Mapped[int] = mapped_column(Integer)
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
