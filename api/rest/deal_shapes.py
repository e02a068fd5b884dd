"""What deals look like in requests."""

from datetime import date
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, JsonValue, StrictBool, StrictInt

from api.fields import CurrencyCode, Money, Strict
from core.errors import InvalidError
from services.crm import deal_directory
from services.crm.deal_fields import MAX_COMPETITORS, MAX_CONTACTS, MAX_LINES, Contact, DealChange, Line, NewDeal
from services.crm.deal_fields import Recurring as NewRecurring

Status = Literal["open", "won", "lost"]
Interval = Literal["month", "quarter", "year"]
Percent = Annotated[StrictInt, Field(ge=0, le=100)]

BULK: Final = 10_000
"""Deals that one request may move."""


class CompetitorIn(Strict):
    """Who else wants the deal."""

    name: str
    note: str | None = None


class DealProductIn(Strict):
    """Some pieces of a product."""

    name: Annotated[str, Field(examples=["Shelf"])]
    sku: str | None = None
    quantity: StrictInt = 1
    unit_price: Money
    """Of one piece, in the deal's currency."""
    discount: Money | None = None
    """Off the whole line."""
    recurring: StrictBool = False
    """Whether it is paid again every `recurring.interval`."""


class RecurringIn(Strict):
    """What is paid again and again."""

    amount: Money | None = None
    """Every interval; what the recurring products cost unless given."""
    interval: Interval
    term_months: Annotated[StrictInt | None, Field(ge=1, le=1200)] = None


class ContactIn(Strict):
    """A person who has a part in a deal beside the primary one."""

    person_id: UUID
    role: Annotated[str | None, Field(examples=["decision_maker"])] = None


class DealFields(Strict):
    """What may be said of a deal when it is made and later."""

    primary_person_id: UUID | None = None
    organization_id: UUID | None = None
    owner_id: UUID | None = None
    """The teammate who works on it."""
    amount: Money | None = None
    """What the products cost unless given."""
    currency: CurrencyCode | None = None
    """The amount's; without one the tenant's base currency."""
    recurring: RecurringIn | None = None
    probability: Percent | None = None
    """Percent; the stage's unless given."""
    close_date: date | None = None
    """When it is expected to close."""
    lost_reason: str | None = None
    """Of lost deals alone."""
    competitors: Annotated[list[CompetitorIn | str] | None, Field(max_length=MAX_COMPETITORS)] = None
    products: Annotated[list[DealProductIn] | None, Field(max_length=MAX_LINES)] = None
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; a null removes."""
    source: str | None = None
    external_id: str | None = None
    """The id another system knows it by."""

    def code(self) -> str | None:
        """Return the currency that is given.

        Raises:
            InvalidError: amounts are in different currencies.
        """
        code = self.currency or (self.amount.currency if self.amount else None)
        for path, money in self._amounts():
            if code is not None and money.currency != code:
                raise InvalidError.of(f"{path}.currency", f"must be the deal's currency, {code}")
            code = code or money.currency
        return code

    def _amounts(self) -> list[tuple[str, Money]]:
        found = [("amount", self.amount), ("recurring.amount", self.recurring.amount if self.recurring else None)]
        for number, product in enumerate(self.products or ()):
            found += [
                (f"products.{number}.unit_price", product.unit_price),
                (f"products.{number}.discount", product.discount),
            ]
        return [(path, money) for path, money in found if money is not None]

    def lines(self) -> list[Line]:
        """Return the products as they are kept."""
        return [
            Line(
                name=product.name,
                sku=product.sku,
                quantity=product.quantity,
                unit_minor=product.unit_price.minor(f"products.{number}.unit_price"),
                discount_minor=0 if product.discount is None else product.discount.minor(f"products.{number}.discount"),
                recurring=product.recurring,
            )
            for number, product in enumerate(self.products or ())
        ]

    def again(self) -> NewRecurring | None:
        """Return what is paid again as it is kept."""
        if self.recurring is None:
            return None
        amount = self.recurring.amount
        return NewRecurring(
            minor=None if amount is None else amount.minor("recurring.amount"),
            interval=self.recurring.interval,
            term_months=self.recurring.term_months,
        )

    def rivals(self) -> list[dict[str, JsonValue]]:
        """Return the competitors as they are kept."""
        return [
            {"name": one} if isinstance(one, str) else {"name": one.name, "note": one.note}
            for one in self.competitors or ()
        ]


class DealIn(DealFields):
    """A deal to make."""

    title: Annotated[str, Field(examples=["Shelves for the new shop"])]
    pipeline_id: UUID
    stage_id: UUID | None = None
    """The pipeline's first open stage unless given."""
    contacts: Annotated[list[ContactIn], Field(default_factory=list[ContactIn], max_length=MAX_CONTACTS)]
    created_at: AwareDatetime | None = None
    """When it was begun, for deals that are older than their entry here: those start nothing."""
    closed_at: AwareDatetime | None = None
    """When it was won or lost."""

    def new(self) -> NewDeal:
        """Return the deal to make."""
        plain = (
            "title",
            "pipeline_id",
            "stage_id",
            "organization_id",
            "owner_id",
            "probability",
            "close_date",
            "lost_reason",
            "source",
            "external_id",
            "created_at",
            "closed_at",
        )
        return NewDeal(
            **{name: getattr(self, name) for name in plain},
            person_id=self.primary_person_id,
            currency=self.code(),
            amount_minor=None if self.amount is None else self.amount.minor("amount"),
            recurring=self.again(),
            competitors=self.rivals(),
            lines=self.lines(),
            contacts=[Contact(person_id=one.person_id, role=one.role) for one in self.contacts],
            attributes=self.attributes or {},
        )


class DealPatch(DealFields):
    """What to change; a field left out stays, null clears. A deal goes to another stage by `/move`."""

    title: str | None = None
    version: StrictInt | None = None
    """Refused with 409 where the deal is in another version by now; the header `If-Match` says the same."""

    def change(self) -> DealChange:
        """Return what is to be true of the deal.

        Raises:
            InvalidError: a field that cannot be null is, or amounts are in different currencies.
        """
        given = self.model_fields_set
        for name in ("title", "currency"):
            if name in given and getattr(self, name) is None:
                raise InvalidError.of(name, "must not be null")
        plain = ("title", "organization_id", "owner_id", "probability", "close_date", "lost_reason")
        fields: dict[str, Any] = {
            name: getattr(self, name) for name in (*plain, "source", "external_id", "attributes") if name in given
        }
        if "primary_person_id" in given:
            fields["person_id"] = self.primary_person_id
        code = self.code()
        if code is not None:
            fields["currency"] = code
        if "amount" in given:
            fields["amount_minor"] = None if self.amount is None else self.amount.minor("amount")
        if "recurring" in given:
            fields["recurring"] = self.again()
        if "competitors" in given:
            fields["competitors"] = self.rivals()
        if "products" in given:
            fields["lines"] = self.lines()
        return DealChange(fields)


class MoveIn(Strict):
    """Where a deal is to go."""

    stage_id: UUID
    pipeline_id: UUID | None = None
    """The stage's, to take the deal from another pipeline."""
    version: StrictInt | None = None
    """Refused with 409 where the deal is in another version by now; the header `If-Match` says the same."""
    lost_reason: str | None = None
    """Of lost stages alone."""


class FilterIn(Strict):
    """Which deals; all that is given must hold."""

    pipeline_id: UUID | None = None
    stage_id: UUID | None = None
    status: Status | None = None
    owner_id: UUID | None = None
    person_id: UUID | None = None
    organization_id: UUID | None = None
    close_from: date | None = None
    close_until: date | None = None

    def filter(self) -> deal_directory.Filter:
        """Return the filter.

        Raises:
            InvalidError: nothing is given: that would be all deals.
        """
        given = self.model_dump(exclude_none=True)
        if not given:
            raise InvalidError.of("filter", "must say which deals")
        return deal_directory.Filter(**given)


class BulkMoveIn(Strict):
    """Deals that are to go to one stage."""

    deal_ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=BULK)] = None
    filter: FilterIn | None = None
    """In place of `deal_ids`."""
    stage_id: UUID
    pipeline_id: UUID | None = None
    """The stage's, to take deals from other pipelines."""
    lost_reason: str | None = None
    versions: dict[UUID, StrictInt] | None = None
    """By the deal's id: it is refused where it is in another version by now."""
