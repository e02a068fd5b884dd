"""What all that is known of a person looks like, on one page."""

from datetime import date, datetime
from typing import Literal, Self
from uuid import UUID

from api.fields import Money, Strict
from api.rest.person_shapes import PersonEntryOut, PersonOut
from core import currency
from services.identity import profile


class CustomerOut(Strict):
    """What the person bought, net of refunds."""

    total_spent: Money
    """In the tenant's base currency, of orders in that currency alone: converting needs dated rates."""
    total_spent_by_currency: dict[str, str]
    order_count: int
    last_order_at: datetime | None

    @classmethod
    def of(cls, bought: profile.Customer) -> Self:
        """Return the answer for what somebody bought."""
        return cls(
            total_spent=Money.of(bought.spent_minor.get(bought.base_currency, 0), bought.base_currency),
            total_spent_by_currency={
                code: str(currency.from_minor(minor, code)) for code, minor in bought.spent_minor.items()
            },
            order_count=bought.order_count,
            last_order_at=bought.last_order_at,
        )


class EmailEngagementOut(Strict):
    """Mail sent, and all openings and clicks of it."""

    sent: int
    opens: int
    clicks: int


class CampaignsOut(Strict):
    """What marketing does with the person."""

    enrolled: list[str]
    """Keys of the journeys the person is or was in, the last entered first."""
    email_engagement: EmailEngagementOut


class ComputedOut(Strict):
    """What conditions may ask of the person beside its fields, under the same names."""

    order_count: int
    lifetime_value: Money
    """In the tenant's base currency, of orders in it alone, net of refunds."""
    average_order: Money | None
    last_order_at: datetime | None
    last_seen_at: datetime | None
    score: int

    @classmethod
    def of(cls, loaded: profile.Profile) -> Self:
        """Return the answer for a profile."""
        bought, person = loaded.customer, loaded.identity.person
        average = bought.average_minor
        return cls(
            order_count=bought.order_count,
            lifetime_value=Money.of(bought.spent_minor.get(bought.base_currency, 0), bought.base_currency),
            average_order=None if average is None else Money.of(average, bought.base_currency),
            last_order_at=bought.last_order_at,
            last_seen_at=person.last_seen_at,
            score=person.score,
        )


class DealSeenOut(Strict):
    """A deal that the person has a part in."""

    id: UUID
    title: str
    status: Literal["open", "won", "lost"]
    pipeline: str
    """By its key, as the stage."""
    stage: str
    amount: Money
    close_date: date | None
    closed_at: datetime | None
    primary: bool
    """Whether the person is the primary one; else a contact, of this `role`."""
    role: str | None

    @classmethod
    def of(cls, deal: profile.DealSeen) -> Self:
        """Return the answer for a deal."""
        return cls(
            id=deal.id,
            title=deal.title,
            status=deal.status,  # pyright: ignore[reportArgumentType]  # one of them, as the table demands
            pipeline=deal.pipeline,
            stage=deal.stage,
            amount=Money.of(deal.amount_minor, deal.currency),
            close_date=deal.close_date,
            closed_at=deal.closed_at,
            primary=deal.is_primary,
            role=deal.role,
        )


class OrderSeenOut(Strict):
    """An order of the person's, ours or an outside shop's."""

    id: str
    """As its events called it; of our own, the order's id."""
    total: Money
    refunded: Money
    placed_at: datetime
    counts: bool
    """Whether anything of it is left, so that it makes a customer."""

    @classmethod
    def of(cls, order: profile.OrderSeen) -> Self:
        """Return the answer for an order."""
        return cls(
            id=order.id,
            total=Money.of(order.total_minor, order.currency),
            refunded=Money.of(order.refunded_minor, order.currency),
            placed_at=order.placed_at,
            counts=order.counts,
        )


class ProfileOut(Strict):
    """Everything known of a person, on one page."""

    identity: PersonOut
    customer: CustomerOut
    computed: ComputedOut
    deals: list[DealSeenOut]
    """The newest 20 that the person is the primary one or a contact of."""
    orders: list[OrderSeenOut]
    """The newest 20."""
    campaigns: CampaignsOut
    segments: list[str]
    """Keys of the segments the person is in now."""
    activities: list[PersonEntryOut]
    """The newest of the timeline."""

    @classmethod
    def of(cls, loaded: profile.Profile) -> Self:
        """Return the answer for a profile."""
        return cls(
            identity=PersonOut.of(loaded.identity),
            customer=CustomerOut.of(loaded.customer),
            computed=ComputedOut.of(loaded),
            deals=[DealSeenOut.of(deal) for deal in loaded.deals],
            orders=[OrderSeenOut.of(order) for order in loaded.orders],
            campaigns=CampaignsOut(
                enrolled=list(loaded.enrolled),
                email_engagement=EmailEngagementOut.model_validate(loaded.email_engagement),
            ),
            segments=list(loaded.segments),
            activities=PersonEntryOut.list_of(loaded.activities),
        )
