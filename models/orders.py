"""Orders, what was shipped of them, and what was paid and given back."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    Boolean,
    CheckConstraint,
    Date,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, OfPerson, TenantRow, belongs_to, of_person, of_tenant, set_null, system
from models.identity import one_of

ORDER_STATUSES = ("placed", "completed", "cancelled")
ORDER_PAYMENTS = ("unpaid", "paid", "on_account", "partly_refunded", "refunded")
ORDER_FULFILMENTS = ("unfulfilled", "partly_fulfilled", "fulfilled")
PAYMENT_STATUSES = ("pending", "authorized", "captured", "voided", "failed")
REFUND_STATUSES = ("pending", "succeeded", "failed")


class Order(Created, TenantRow):
    """What somebody bought: goods, prices and taxes as they were."""

    __tablename__ = "sales_order"
    __table_args__ = (
        of_tenant(),
        belongs_to("person", "person_id"),
        belongs_to("organization", "organization_id"),
        UniqueConstraint("tenant_id", "number"),
        UniqueConstraint("tenant_id", "cart_id"),
        CheckConstraint(one_of("status", ORDER_STATUSES), name="status"),
        CheckConstraint(one_of("payment_status", ORDER_PAYMENTS), name="payment_status"),
        CheckConstraint(one_of("fulfilment_status", ORDER_FULFILMENTS), name="fulfilment_status"),
        CheckConstraint(
            "total_minor = subtotal_minor - discount_minor + shipping_minor"
            " + CASE WHEN tax_included THEN 0 ELSE tax_minor END",
            name="total",
        ),
        CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name="refunded"),
        CheckConstraint("captured_minor BETWEEN 0 AND total_minor", name="captured"),
        Index(None, "tenant_id", "person_id", "id"),
        Index(None, "tenant_id", "organization_id", "id"),
        Index(None, "tenant_id", "status", "id"),
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
                        "note": "NULL",
                    },
                )
            )
        },
    )

    number: Mapped[int]
    """From 1 within the tenant; what people call it by."""
    cart_id: Mapped[UUID | None]
    person_id: Mapped[UUID | None]
    """Null once the person was erased."""
    organization_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(server_default="placed")
    payment_status: Mapped[str]
    fulfilment_status: Mapped[str] = mapped_column(server_default="unfulfilled")
    currency: Mapped[str] = mapped_column(CHAR(3))
    subtotal_minor: Mapped[int]
    """The lines before discount."""
    discount_minor: Mapped[int] = mapped_column(server_default=text("0"))
    shipping_minor: Mapped[int] = mapped_column(server_default=text("0"))
    tax_minor: Mapped[int] = mapped_column(server_default=text("0"))
    tax_included: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Whether prices hold the tax, so that it adds nothing to the total."""
    total_minor: Mapped[int]
    captured_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """What was paid; of an order on account, what was charged to the organization."""
    refunded_minor: Mapped[int] = mapped_column(server_default=text("0"))
    discount_code: Mapped[str | None]
    shipping_method: Mapped[str | None]
    email: Mapped[str | None]
    shipping_address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    billing_address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    note: Mapped[str | None]
    purchase_order: Mapped[str | None]
    """The organization's own number for it."""
    due_on: Mapped[date | None] = mapped_column(Date)
    """When an order on account is to be paid."""
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    cancelled_at: Mapped[datetime | None]
    cancel_reason: Mapped[str | None]
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OrderLine(TenantRow):
    """Some pieces of a variant that were bought."""

    __tablename__ = "order_line"
    __table_args__ = (
        belongs_to("sales_order", "order_id", ondelete="CASCADE"),
        set_null("variant", "variant_id"),
        UniqueConstraint("tenant_id", "order_id", "number"),
        Index(None, "tenant_id", "variant_id"),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("fulfilled >= 0 AND released >= 0 AND fulfilled + released <= quantity", name="fulfilled"),
        CheckConstraint("returned BETWEEN 0 AND quantity", name="returned"),
    )

    order_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(Integer)
    variant_id: Mapped[UUID | None]
    sku: Mapped[str]
    name: Mapped[str]
    quantity: Mapped[int] = mapped_column(Integer)
    unit_minor: Mapped[int]
    discount_minor: Mapped[int] = mapped_column(server_default=text("0"))
    """Its share of the order's discount."""
    tax_minor: Mapped[int] = mapped_column(server_default=text("0"))
    total_minor: Mapped[int]
    """What was paid for it, with tax."""
    fulfilled: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    released: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Pieces that will not be sent: they were refunded before they were, or the order was cancelled."""
    returned: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Pieces that refunds were about."""


class Fulfilment(Created, TenantRow):
    """A parcel."""

    __tablename__ = "fulfilment"
    __table_args__ = (
        belongs_to("sales_order", "order_id", ondelete="CASCADE"),
        Index(None, "tenant_id", "order_id", "id"),
    )

    order_id: Mapped[UUID]
    lines: Mapped[list[Any]]
    """`[{"line_id": ..., "quantity": 2}]`."""
    carrier: Mapped[str | None]
    tracking_number: Mapped[str | None]
    tracking_url: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    actor: Mapped[str]


class OrderCounter(Base):
    """The number of a tenant's last order."""

    __tablename__ = "order_counter"
    __table_args__ = (PrimaryKeyConstraint("tenant_id"), of_tenant(), {"postgresql_with": {"fillfactor": "50"}})

    tenant_id: Mapped[UUID]
    last: Mapped[int] = mapped_column(server_default=text("0"))


class Payment(Created, TenantRow):
    """Money asked of somebody by a gateway, for one checkout of a cart."""

    __tablename__ = "payment"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("status", PAYMENT_STATUSES), name="status"),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("captured_minor BETWEEN 0 AND amount_minor", name="captured"),
        CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name="refunded"),
        belongs_to("payment_account", "account_id"),
        UniqueConstraint("tenant_id", "cart_id", "attempt"),
        Index(None, "tenant_id", "order_id"),
        Index(None, "tenant_id", "account_id"),
        Index(
            "payment_stray_idx",
            "updated_at",
            postgresql_where=text("order_id IS NULL AND status IN ('authorized', 'captured') AND refunded_minor = 0"),
        ),
        Index(
            "payment_gateway_id_idx",
            "tenant_id",
            "gateway",
            "gateway_id",
            unique=True,
            postgresql_where=text("gateway_id IS NOT NULL"),
        ),
        {"info": system("SELECT")},
    )

    cart_id: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(Integer)
    """Of the cart's checkouts; with the cart it is the key that makes a repeated request the same."""
    order_id: Mapped[UUID | None]
    account_id: Mapped[UUID | None]
    """Whose money it moved by, whichever is active now; null of the local gateway without one."""
    gateway: Mapped[str]
    gateway_id: Mapped[str | None] = mapped_column(Text(collation="C"))
    status: Mapped[str] = mapped_column(server_default="pending")
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount_minor: Mapped[int]
    captured_minor: Mapped[int] = mapped_column(server_default=text("0"))
    refunded_minor: Mapped[int] = mapped_column(server_default=text("0"))
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """`{"code": "declined", "message": ...}`."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Refund(Created, TenantRow):
    """Money given back of an order."""

    __tablename__ = "refund"
    __table_args__ = (
        belongs_to("sales_order", "order_id"),
        belongs_to("payment", "payment_id"),
        CheckConstraint(one_of("status", REFUND_STATUSES), name="status"),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(None, "tenant_id", "order_id", "id"),
        Index(None, "tenant_id", "payment_id"),
        Index(
            "refund_gateway_id_idx",
            "tenant_id",
            "gateway_id",
            unique=True,
            postgresql_where=text("gateway_id IS NOT NULL"),
        ),
        Index("refund_pending_idx", "updated_at", postgresql_where=text("status = 'pending'")),
        {"info": system("SELECT")},
    )

    order_id: Mapped[UUID]
    payment_id: Mapped[UUID | None]
    """Null of an order on account: the organization's ledger is credited."""
    amount_minor: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    status: Mapped[str] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    lines: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """`[{"line_id": ..., "quantity": 1, "restock": true}]`."""
    gateway_id: Mapped[str | None] = mapped_column(Text(collation="C"))
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    actor: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentNotice(Base):
    """What a gateway told us, once."""

    __tablename__ = "payment_notice"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "gateway", "notice_id"),
        of_tenant(),
        Index(None, "tenant_id", "received_at"),
    )

    tenant_id: Mapped[UUID]
    gateway: Mapped[str]
    """Whose it is: the id of the account."""
    notice_id: Mapped[str] = mapped_column(Text(collation="C"))
    type: Mapped[str]
    effect: Mapped[str]
    """`captured`, `refunded`, ..., or `nothing`."""
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PaymentAccount(Created, TenantRow):
    """A tenant's account with a payment gateway."""

    __tablename__ = "payment_account"
    __table_args__ = (
        of_tenant(),
        CheckConstraint(one_of("gateway", ("local", "stripe")), name="gateway"),
        Index("payment_account_active_key", "tenant_id", unique=True, postgresql_where=text("active = true")),
    )

    gateway: Mapped[str]
    config: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What may be shown."""
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Keys, encrypted under the deployment's; never shown."""
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
