"""How many pieces there are, where, and for whom they are held: a ledger of movements, and reservations."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Computed,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Created, TenantRow, belongs_to, of_tenant, system
from models.identity import one_of

MOVEMENT_KINDS = ("receive", "adjust", "ship", "return")
RESERVATION_STATUSES = ("held", "shipped", "released", "expired")


class StockLocation(Created, TenantRow):
    """A place that pieces lie in."""

    __tablename__ = "stock_location"
    __table_args__ = (of_tenant(), UniqueConstraint("tenant_id", "key"))

    key: Mapped[str]
    name: Mapped[str]
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Pieces are taken from the first that has enough."""
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))


class StockLevel(Base):
    """How many pieces of a variant lie in a place: `on_hand` is the sum of movements, `reserved` of what is held."""

    __tablename__ = "stock_level"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "variant_id", "location_id"),
        belongs_to("variant", "variant_id"),
        belongs_to("stock_location", "location_id"),
        CheckConstraint("reserved >= 0", name="reserved"),
        Index(None, "tenant_id", "location_id"),
        {"postgresql_with": {"fillfactor": "50"}},  # busy rows of few columns: their updates stay HOT
    )

    tenant_id: Mapped[UUID]
    variant_id: Mapped[UUID]
    location_id: Mapped[UUID]
    on_hand: Mapped[int] = mapped_column(server_default=text("0"))
    reserved: Mapped[int] = mapped_column(server_default=text("0"))
    available: Mapped[int] = mapped_column(Computed("on_hand - reserved", persisted=True))
    """Negative where a variant on backorder was sold beyond what there is."""
    movements: Mapped[int] = mapped_column(server_default=text("0"))
    """How many entries its ledger has."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StockMovement(Created, TenantRow):
    """An entry of the ledger of a level; never changed."""

    __tablename__ = "stock_movement"
    __table_args__ = (
        belongs_to("variant", "variant_id"),
        belongs_to("stock_location", "location_id"),
        CheckConstraint(one_of("kind", MOVEMENT_KINDS), name="kind"),
        CheckConstraint("quantity <> 0", name="quantity"),
        UniqueConstraint("tenant_id", "variant_id", "location_id", "number"),
        Index(
            "stock_movement_reference_key",
            "tenant_id",
            "reference",
            "kind",
            "variant_id",
            "location_id",
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
        Index(None, "tenant_id", "id"),
    )

    variant_id: Mapped[UUID]
    location_id: Mapped[UUID]
    number: Mapped[int]
    """From 1, without gaps, in the order of booking."""
    kind: Mapped[str]
    quantity: Mapped[int]
    """What it adds to the pieces on hand."""
    on_hand: Mapped[int]
    """After it."""
    reference: Mapped[str | None] = mapped_column(Text(collation="C"))
    """What it stands for, such as `fulfilment:ID`; booked once."""
    note: Mapped[str | None]
    actor: Mapped[str]


class Reservation(Created, TenantRow):
    """Pieces held for a checkout, and then for its order, until they are shipped or let go."""

    __tablename__ = "reservation"
    __table_args__ = (
        belongs_to("variant", "variant_id"),
        belongs_to("stock_location", "location_id"),
        CheckConstraint(one_of("status", RESERVATION_STATUSES), name="status"),
        CheckConstraint("quantity > 0", name="quantity"),
        UniqueConstraint("tenant_id", "cart_id", "attempt", "variant_id", "location_id"),
        Index(None, "tenant_id", "order_id"),
        Index(None, "tenant_id", "variant_id", "location_id"),
        Index("reservation_expiring_idx", "expires_at", postgresql_where=text("status = 'held'")),
        {"info": system("SELECT")},
    )

    cart_id: Mapped[UUID]
    attempt: Mapped[int] = mapped_column(Integer)
    """Of the cart's checkouts."""
    order_id: Mapped[UUID | None]
    variant_id: Mapped[UUID]
    location_id: Mapped[UUID]
    quantity: Mapped[int] = mapped_column(Integer)
    """Still held: what was shipped of it is not."""
    status: Mapped[str] = mapped_column(server_default="held")
    expires_at: Mapped[datetime | None]
    """Null once there is an order."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
