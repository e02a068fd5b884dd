"""What is sold: products with their variants and prices, categories, and who wants to hear of a variant."""

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
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant
from models.identity import one_of

PRODUCT_STATUSES = ("draft", "active", "archived")
WATCHES = ("stock", "price")


class Category(Created, TenantRow):
    """A shelf of the shop."""

    __tablename__ = "category"
    __table_args__ = (
        of_tenant(),
        belongs_to("category", "parent_id"),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint("parent_id <> id", name="parent"),
        Index(None, "tenant_id", "parent_id"),
    )

    key: Mapped[str]
    name: Mapped[str]
    parent_id: Mapped[UUID | None]
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class Product(Created, TenantRow):
    """Something sold, in one or more variants."""

    __tablename__ = "product"
    __table_args__ = (
        of_tenant(),
        UniqueConstraint("tenant_id", "key"),
        CheckConstraint(one_of("status", PRODUCT_STATUSES), name="status"),
        Index(None, "tenant_id", "status", "id"),
        Index(
            "product_external_id_idx",
            "tenant_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
        ),
    )

    key: Mapped[str]
    """Ends its address in a shop."""
    name: Mapped[str]
    description: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="active")
    """Only an active one can be put into a cart; orders keep what they were about."""
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    external_id: Mapped[str | None] = mapped_column(Text(collation="C"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProductCategory(Base):
    """A product stands on a shelf."""

    __tablename__ = "product_category"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "product_id", "category_id"),
        belongs_to("product", "product_id", ondelete="CASCADE"),
        belongs_to("category", "category_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "category_id", "product_id"),
    )

    tenant_id: Mapped[UUID]
    product_id: Mapped[UUID]
    category_id: Mapped[UUID]


class Variant(Created, TenantRow):
    """What is put into a cart: a product in one size and colour."""

    __tablename__ = "variant"
    __table_args__ = (
        belongs_to("product", "product_id", ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "sku"),
        Index(None, "tenant_id", "product_id", "position"),
    )

    product_id: Mapped[UUID]
    sku: Mapped[str] = mapped_column(Text(collation="C"))
    name: Mapped[str | None]
    """Behind the product's; null for the only one."""
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """`{"size": "M"}`."""
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    tracked: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    """Whether its stock is counted; one that is not never runs out."""
    backorder: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether more may be sold than there is."""
    tax_class: Mapped[str] = mapped_column(server_default="standard")
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProductWord(Base):
    """A word that a product is found by: of its name and key, its external id, and its variants' SKUs as a whole."""

    __tablename__ = "product_word"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "word", "product_id"),
        belongs_to("product", "product_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "product_id"),
    )

    tenant_id: Mapped[UUID]
    word: Mapped[str] = mapped_column(Text(collation="C"))
    """In lower case, without accents."""
    product_id: Mapped[UUID]


class Price(Base):
    """What a variant costs in a currency."""

    __tablename__ = "price"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "variant_id", "currency"),
        belongs_to("variant", "variant_id", ondelete="CASCADE"),
        CheckConstraint("amount_minor >= 0", name="amount"),
        CheckConstraint("compare_at_minor > amount_minor", name="compare_at"),
    )

    tenant_id: Mapped[UUID]
    variant_id: Mapped[UUID]
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount_minor: Mapped[int]
    compare_at_minor: Mapped[int | None]
    """What it cost before, to be shown struck through."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class VariantWatch(Base):
    """Somebody wants to hear when a variant is back in stock, or costs less."""

    __tablename__ = "variant_watch"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "variant_id", "kind", "person_id"),
        belongs_to("variant", "variant_id", ondelete="CASCADE"),
        belongs_to("person", "person_id", ondelete="CASCADE"),
        CheckConstraint(one_of("kind", WATCHES), name="kind"),
        Index(None, "tenant_id", "person_id"),
        {
            "info": of_person(
                OfPerson(
                    column="person_id",
                    merge="move",
                    doubles="EXISTS (SELECT FROM variant_watch w WHERE w.tenant_id = :tenant"
                    " AND w.variant_id = r.variant_id AND w.kind = r.kind AND w.person_id = :winner)",
                    erase="delete",
                )
            )
        },
    )

    tenant_id: Mapped[UUID]
    variant_id: Mapped[UUID]
    kind: Mapped[str]
    person_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
