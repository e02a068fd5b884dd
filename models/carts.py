"""Carts, and the codes that make them cheaper."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    Boolean,
    CheckConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, set_null
from models.identity import one_of

CART_STATUSES = ("open", "checking_out", "ordered", "joined")
DISCOUNT_KINDS = ("percent", "amount", "shipping")


class Cart(Created, TenantRow):
    """What somebody is about to buy; a guest's until the person is known, at the latest at checkout."""

    __tablename__ = "cart"
    __table_args__ = (
        of_tenant(),
        belongs_to("person", "person_id"),
        set_null("organization", "organization_id"),
        CheckConstraint(one_of("status", CART_STATUSES), name="status"),
        Index(None, "tenant_id", "person_id", "id"),
        Index(None, "tenant_id", "status", "id"),
        Index(None, "tenant_id", "organization_id"),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    erase="detach",
                    blanks={
                        "email": "NULL",
                        "shipping_address": "NULL",
                        "billing_address": "NULL",
                        "attributes": "'{}'::jsonb",
                        "frozen": "NULL",
                    },
                )
            )
        },
    )

    person_id: Mapped[UUID | None]
    organization_id: Mapped[UUID | None]
    """The company that is to pay on its terms."""
    email: Mapped[str | None]
    """Of a guest: becomes the person at checkout."""
    status: Mapped[str] = mapped_column(server_default="open")
    currency: Mapped[str] = mapped_column(CHAR(3))
    discount_code: Mapped[str | None]
    shipping_method: Mapped[str | None]
    shipping_address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    billing_address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    """Grows with every change: what was shown is what is bought."""
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How many checkouts were begun."""
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Why the last one came to nothing: `{"code": ..., "message": ...}`."""
    frozen: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What is being bought, as it was when the checkout began; see `services.commerce.checkout`."""
    joined_into: Mapped[UUID | None]
    order_id: Mapped[UUID | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CartLine(Created, TenantRow):
    """Some pieces of a variant in a cart."""

    __tablename__ = "cart_line"
    __table_args__ = (
        belongs_to("cart", "cart_id", ondelete="CASCADE"),
        belongs_to("variant", "variant_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "cart_id", "variant_id"),
        Index(None, "tenant_id", "variant_id"),
        CheckConstraint("quantity > 0", name="quantity"),
    )

    cart_id: Mapped[UUID]
    variant_id: Mapped[UUID]
    quantity: Mapped[int] = mapped_column(Integer)


class Discount(Created, TenantRow):
    """A code that makes a cart cheaper."""

    __tablename__ = "discount"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "code"),
        CheckConstraint(one_of("kind", DISCOUNT_KINDS), name="kind"),
        CheckConstraint("percent_bp BETWEEN 1 AND 10000", name="percent"),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("minimum_minor >= 0", name="minimum"),
        CheckConstraint("max_uses > 0", name="max_uses"),
        CheckConstraint("uses >= 0", name="uses"),
        CheckConstraint(
            "(kind = 'percent') = (percent_bp IS NOT NULL) AND (kind = 'amount') = (amount_minor IS NOT NULL)",
            name="value",
        ),
        CheckConstraint("(amount_minor IS NULL AND minimum_minor IS NULL) OR currency IS NOT NULL", name="currency"),
    )

    code: Mapped[str] = mapped_column(Text(collation="C"))
    """Upper case; carts take it in any."""
    kind: Mapped[str]
    percent_bp: Mapped[int | None] = mapped_column(Integer)
    """Hundredths of a percent."""
    amount_minor: Mapped[int | None]
    minimum_minor: Mapped[int | None]
    """What the goods must cost at least."""
    currency: Mapped[str | None] = mapped_column(CHAR(3))
    """Of `amount` and `minimum`; a cart in another cannot use it."""
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    max_uses: Mapped[int | None] = mapped_column(Integer)
    uses: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    once_per_person: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DiscountUse(Base):
    """A checkout that took a code: held with the goods, given back with them."""

    __tablename__ = "discount_use"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "discount_id", "cart_id"),
        belongs_to("discount", "discount_id", ondelete="CASCADE"),
        belongs_to("person", "person_id"),
        Index(None, "tenant_id", "person_id"),
        Index(None, "tenant_id", "cart_id"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="detach"))},
    )

    tenant_id: Mapped[UUID]
    discount_id: Mapped[UUID]
    cart_id: Mapped[UUID]
    person_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
