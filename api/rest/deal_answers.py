"""What deals look like in answers."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from api.fields import Money, Strict
from api.rest.deal_shapes import Interval, Status
from core import currency
from core.errors import FieldProblem, PlatformError
from models import Deal, DealLine
from services.crm import deal_directory, history, recurring


class Sum(Strict):
    """What several amounts are together; it may have more digits than one amount has."""

    amount: Decimal
    currency: str

    @classmethod
    def of(cls, minor: int, code: str) -> Self:
        """Return the sum of `minor` smallest units."""
        return cls(amount=currency.from_minor(minor, code), currency=code)


class DealProblemOut(Strict):
    """What is wrong with a field."""

    field: str
    reason: str


class RefusedOut(Strict):
    """A deal that stays where it is, and why."""

    deal_id: UUID
    code: str
    """`not-found`, `conflict` or `invalid`."""
    reason: str
    errors: list[DealProblemOut]

    @classmethod
    def of(cls, deal_id: UUID, error: PlatformError) -> Self:
        """Return the answer for a refusal."""
        return cls(deal_id=deal_id, code=error.code, reason=error.detail, errors=problems(error.errors))


class BulkMoveOut(Strict):
    """What became of the deals."""

    moved: list[UUID]
    unchanged: list[UUID]
    """Those that stood there already."""
    refused: list[RefusedOut]


class RecurringOut(Strict):
    """What is paid again and again."""

    amount: Money
    interval: Interval
    term_months: int | None
    mrr: Money
    """The amount by month, rounded half away from zero."""
    arr: Sum
    """Twelve times the exact monthly one."""


class DealOut(Strict):
    """A deal."""

    id: UUID
    title: str
    pipeline_id: UUID
    pipeline: str
    """The pipeline's key."""
    stage_id: UUID
    stage: str
    """The stage's key."""
    status: Status
    primary_person_id: UUID | None
    organization_id: UUID | None
    owner_id: UUID | None
    amount: Money
    base_amount: Money
    """In the tenant's base currency: by the newest rate while it is open, by that of the day it closed since."""
    recurring: RecurringOut | None
    probability: int
    """Percent: its own, else the stage's."""
    own_probability: int | None
    close_date: date | None
    closed_at: datetime | None
    lost_reason: str | None
    competitors: list[dict[str, Any]]
    attributes: dict[str, Any]
    source: str | None
    external_id: str | None
    stage_entered_at: datetime
    touched_at: datetime
    """When something was last done about it."""
    rotting: bool
    """Whether nothing was done about it for longer than its stage allows."""
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, shown: deal_directory.Shown) -> Self:
        """Return the answer for a deal."""
        return cls(**_fields(shown))


class DealProductOut(Strict):
    """Some pieces of a product."""

    name: str
    sku: str | None
    quantity: int
    unit_price: Money
    discount: Money
    recurring: bool

    @classmethod
    def of(cls, line: DealLine, code: str) -> Self:
        """Return the answer for a line."""
        return cls(
            name=line.name,
            sku=line.sku,
            quantity=line.quantity,
            unit_price=Money.of(line.unit_minor, code),
            discount=Money.of(line.discount_minor, code),
            recurring=line.recurring,
        )


class ContactOut(Strict):
    """A person who has a part in a deal beside the primary one."""

    person_id: UUID
    role: str | None
    first_name: str | None
    last_name: str | None
    email: str | None


class WholeDealOut(DealOut):
    """A deal with all that is its own."""

    products: list[DealProductOut]
    contacts: list[ContactOut]

    @classmethod
    def whole(cls, whole: deal_directory.Whole) -> Self:
        """Return the answer for a deal."""
        return cls(
            **_fields(whole.shown),
            products=[DealProductOut.of(line, whole.shown.deal.currency) for line in whole.lines],
            contacts=[ContactOut.model_validate(contact) for contact in whole.contacts],
        )


class StayOut(Strict):
    """A deal's stay in a stage."""

    number: int
    pipeline_id: UUID
    pipeline: str
    stage_id: UUID
    stage: str
    name: str
    kind: Status
    entered_at: datetime
    left_at: datetime | None
    """The next one's `entered_at`; null where the deal is now."""
    seconds: float
    """Until now, where it has not left."""
    actor: str

    @classmethod
    def of(cls, stay: history.Stay) -> Self:
        """Return the answer for a stay."""
        return cls.model_validate(stay)


def problems(errors: Sequence[FieldProblem]) -> list[DealProblemOut]:
    """Return the answer for fields at fault."""
    return [DealProblemOut(field=error.field, reason=error.reason) for error in errors]


def _fields(shown: deal_directory.Shown) -> dict[str, Any]:
    deal = shown.deal
    own = {
        name: getattr(deal, name)
        for name in DealOut.model_fields
        if name in Deal.__table__.columns and name != "probability"
    }
    return own | {
        "pipeline": shown.pipeline,
        "stage": shown.stage,
        "primary_person_id": deal.person_id,
        "amount": Money.of(deal.amount_minor, deal.currency),
        "base_amount": Money.of(deal.base_minor, shown.base_currency),
        "recurring": _recurring(deal),
        "probability": shown.stage_probability if deal.probability is None else deal.probability,
        "own_probability": deal.probability,
        "rotting": shown.rotting,
    }


def _recurring(deal: Deal) -> RecurringOut | None:
    if deal.recurring_minor is None or deal.recurring_interval is None:
        return None
    return RecurringOut.model_validate(
        {
            "amount": Money.of(deal.recurring_minor, deal.currency),
            "interval": deal.recurring_interval,
            "term_months": deal.recurring_term_months,
            "mrr": Money.of(recurring.monthly(deal.recurring_minor, deal.recurring_interval), deal.currency),
            "arr": Sum.of(recurring.annual(deal.recurring_minor, deal.recurring_interval), deal.currency),
        }
    )
