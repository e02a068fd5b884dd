"""Tenants, their settings and keys, and the answers kept for repeated requests."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, Boolean, CheckConstraint, Index, Integer, LargeBinary, PrimaryKeyConstraint, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, TenantRow, of_tenant, system


class Tenant(Created, Base):
    """A customer of the platform and the settings all its parts read."""

    __tablename__ = "tenant"
    __table_args__ = (
        CheckConstraint("base_currency ~ '^[A-Z]{3}$'", name="currency"),
        {"info": system("SELECT, INSERT, UPDATE")},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    time_zone: Mapped[str] = mapped_column(server_default="UTC")
    """IANA name; what 'today' means where a person's zone is unknown."""
    base_currency: Mapped[str] = mapped_column(CHAR(3), server_default="EUR")
    postal_address: Mapped[str | None]
    """Printed in marketing mail, as the law of many countries asks."""
    from_address: Mapped[str | None]
    """`Name <address>` for templates that name no sender."""
    quiet_hours: Mapped[dict[str, Any] | None]
    """`{"from": "21:00", "to": "08:00"}` in the person's zone, or null."""
    frequency_caps: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """`[{"channel": "email", "messages": 3, "days": 7}]`, calendar days in the person's zone."""
    send_limits: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """`[{"channel": "email", "domain": null or "gmail.com", "per_minute": 600}]`."""
    breaker: Mapped[dict[str, Any] | None]
    """`{"complaints": 0.003, "bounces": 0.1, "minimum": 200}`: shares that pause a campaign; null: just these."""
    attribution_hours: Mapped[dict[str, Any] | None]
    """Hours after a touch in which an order is credited to it, by channel; null: those of `attribution.WINDOWS`."""
    allowed_origins: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """Websites whose pages may send events and forms, such as `https://shop.example`."""
    qualify_at_score: Mapped[int | None]
    """Who has at least this score is qualified; null leaves it to people."""
    prices_include_tax: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Of goods and shipping."""


class ApiKey(Created, TenantRow):
    """A credential; the secret itself is never stored."""

    __tablename__ = "api_key"
    __table_args__ = (of_tenant(), {"info": system("SELECT, INSERT, UPDATE")})

    name: Mapped[str]
    prefix: Mapped[str]
    """The first characters of the key, to recognise it by."""
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the whole key; the key has 256 random bits, so a slow hash would add nothing."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Created, Base):
    """The answer to a POST that carried `Idempotency-Key`, to be given again.

    Written in the transaction of the work it answers for: a row means the work is done, none that nothing was done.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "key"),
        of_tenant(),
        Index(None, "created_at"),
        {"info": system("SELECT, DELETE")},
    )

    tenant_id: Mapped[UUID]
    key: Mapped[str] = mapped_column(Text(collation="C"))
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of caller, method, address and body: the same key with another request is an error."""
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
