"""What comes on top of goods: taxes and shipping, by tables of the tenant's own."""

from datetime import datetime
from typing import Any

from sqlalchemy import CHAR, Boolean, CheckConstraint, Integer, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Created, TenantRow, of_tenant


class TaxRate(Created, TenantRow):
    """What part of a price is tax where goods of a class go to."""

    __tablename__ = "tax_rate"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "country", "region", "tax_class"),
        CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="rate"),
    )

    country: Mapped[str] = mapped_column(CHAR(2))
    """ISO 3166-1."""
    region: Mapped[str] = mapped_column(server_default="")
    """As addresses there have it; empty: all that has no rate of its own."""
    tax_class: Mapped[str] = mapped_column(server_default="standard")
    """Of variants and shipping methods."""
    rate_ppm: Mapped[int] = mapped_column(Integer)
    """Millionths: 19 percent are 190,000."""
    name: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ShippingMethod(Created, TenantRow):
    """A way to send goods, and what it costs in a currency."""

    __tablename__ = "shipping_method"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key", "currency"),
        CheckConstraint("amount_minor >= 0", name="amount"),
        CheckConstraint("free_from_minor >= 0", name="free_from"),
    )

    key: Mapped[str]
    name: Mapped[str]
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount_minor: Mapped[int]
    free_from_minor: Mapped[int | None]
    """Costs nothing where the goods, after discount, are at least this."""
    countries: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    """ISO 3166-1; null: everywhere."""
    tax_class: Mapped[str] = mapped_column(server_default="standard")
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
