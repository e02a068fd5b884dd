"""What a website may do: keys that only write events, and forms."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, TenantRow, of_tenant, system


class WriteKey(Created, TenantRow):
    """A public key for a website: it can write events of visitors and read nothing, so it is kept as it is."""

    __tablename__ = "write_key"
    __table_args__ = (of_tenant(), {"info": system("SELECT")})

    name: Mapped[str]
    key: Mapped[str] = mapped_column(Text(collation="C"), unique=True)
    revoked_at: Mapped[datetime | None]


class Form(Created, TenantRow):
    """A form on a website: what it asks, and where the answers go."""

    __tablename__ = "form"
    __table_args__ = (of_tenant(), UniqueConstraint("tenant_id", "key"), {"info": system("SELECT")})

    key: Mapped[str]
    name: Mapped[str]
    public_key: Mapped[str] = mapped_column(Text(collation="C"), unique=True)
    """Its part of the public address; the tenant's own key is not unique among tenants."""
    fields: Mapped[list[Any]]
    """`[{"name", "label", "type", "required", "maps_to", "choices"?}]`."""
    consent: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """`[{"channel", "topic", "field" | null, "wording"}]`: given by the submission, or by a ticked field of it."""
    redirect_url: Mapped[str | None]
    success_message: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
