"""Commerce facts that other domains read."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CHAR, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, OfPerson, belongs_to, of_person


class OrderFact(Base):
    """What is known of one order, ours or an outside shop's, folded from its `order.*` events."""

    __tablename__ = "order_fact"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "order_key"),
        belongs_to("person", "person_id"),
        Index(None, "tenant_id", "person_id"),
        {"info": of_person(OfPerson(column="person_id", merge="move", erase="detach"))},
    )

    tenant_id: Mapped[UUID]
    order_key: Mapped[str]
    """The event's `order_id`, or the event's own id where it names none."""
    person_id: Mapped[UUID | None]
    """Null once the person was erased: the order still counts."""
    currency: Mapped[str] = mapped_column(CHAR(3))
    total_minor: Mapped[int]
    refunded_minor: Mapped[int] = mapped_column(server_default=text("0"))
    placed_at: Mapped[datetime | None]
    """Null while only a refund of the order has been seen."""
