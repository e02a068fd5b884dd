"""What organizations look like in requests and answers."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, JsonValue, StrictBool

from api.fields import CurrencyCode, Money, Strict
from models import Organization, OrganizationEntry
from services.identity import organization_ledger, organization_people, organization_tree
from services.identity.organization_change import OrganizationChange

Kind = Literal["customer", "vendor", "partner"]
EntryKind = Literal["charge", "payment", "credit", "adjustment"]


class OrganizationIn(Strict):
    """An organization as a caller knows it. A field left out says nothing about it; in a PATCH, null clears."""

    name: Annotated[str | None, Field(examples=["Shop GmbH"])] = None
    """Needed for a new one."""
    domain: Annotated[str | None, Field(examples=["shop.example"])] = None
    """Its host name, taken in lower case without `www.`: a key beside `external_id`."""
    external_id: str | None = None
    """The id another system knows it by."""
    parent_id: UUID | None = None
    """The organization it belongs to."""
    is_customer: StrictBool | None = None
    is_vendor: StrictBool | None = None
    is_partner: StrictBool | None = None
    industry: str | None = None
    website: str | None = None
    phone: str | None = None
    """In international form."""
    tax_id: str | None = None
    attributes: dict[str, JsonValue] | None = None
    """Merged key by key; a null removes."""
    owner_id: UUID | None = None
    """The teammate who looks after it."""
    currency: CurrencyCode | None = None
    """Of its account; the tenant's unless given, and fixed once the ledger has an entry."""
    credit_limit: Money | None = None
    """The balance up to which charges are booked; null for no limit."""
    payment_terms_days: Annotated[int | None, Field(ge=0, le=3650)] = None
    """Days from a charge to its due date."""

    def change(self, *, nulls: bool) -> OrganizationChange:
        """Return what is to be true of it; `nulls` where a null is to clear."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"attributes", "credit_limit"}}
        limit = self.credit_limit
        return OrganizationChange(
            fields={
                name: value
                for name, value in given.items()
                if value is not None or (nulls and not name.startswith("is_"))
            },
            credit_limit=None if limit is None else (limit.minor("credit_limit"), limit.currency),
            limits=limit is not None or (nulls and "credit_limit" in self.model_fields_set),
            attributes=self.attributes or {},
        )


class OrganizationOut(Strict):
    """An organization."""

    id: UUID
    name: str
    domain: str | None
    external_id: str | None
    parent_id: UUID | None
    is_customer: bool
    is_vendor: bool
    is_partner: bool
    industry: str | None
    website: str | None
    phone: str | None
    tax_id: str | None
    attributes: dict[str, Any]
    owner_id: UUID | None
    currency: CurrencyCode
    credit_limit: Money | None
    payment_terms_days: int | None
    balance: Money
    """What it owes, by its ledger."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, organization: Organization) -> Self:
        """Return the answer for an organization."""
        code, limit = organization.currency, organization.credit_limit_minor
        plain = {
            name: getattr(organization, name) for name in cls.model_fields if name not in {"credit_limit", "balance"}
        }
        return cls(
            **plain,
            credit_limit=None if limit is None else Money.of(limit, code),
            balance=Money.of(organization.balance_minor, code),
        )


class RelativeOut(Strict):
    """An organization above or below."""

    id: UUID
    name: str
    parent_id: UUID | None
    level: int
    """How many steps away; negative above."""


class TreeOut(Strict):
    """Where an organization stands."""

    ancestors: list[RelativeOut]
    """The root first."""
    descendants: list[RelativeOut]
    """Level by level, at most 1,000."""
    complete: bool
    """Whether those are all, down to the depth asked for."""


class RollupOut(Strict):
    """An organization and all below it, taken together."""

    organizations: int
    people: int
    """Who is linked to any of them today, each counted once."""
    balance_by_currency: dict[str, Money]
    """What they owe."""
    order_count: int
    """Of those people."""
    total_spent_by_currency: dict[str, Money]
    """By those people, net of refunds."""

    @classmethod
    def of(cls, rollup: organization_tree.Rollup) -> Self:
        """Return the answer for a roll-up."""
        return cls(
            organizations=rollup.organizations,
            people=rollup.people,
            balance_by_currency={code: Money.of(minor, code) for code, minor in rollup.balance_minor.items()},
            order_count=rollup.order_count,
            total_spent_by_currency={code: Money.of(minor, code) for code, minor in rollup.spent_minor.items()},
        )


class LinkIn(Strict):
    """What a person is to the organization."""

    person_id: UUID
    kind: organization_people.LinkKind
    """Gives the person the role of that name while the link holds; any makes a contact."""
    title: Annotated[str | None, Field(examples=["Head of Purchasing"])] = None
    is_primary: StrictBool = False
    """Whether it is the organization meant where the person is shown with one; taken from the person's others."""
    started_on: date | None = None
    """The first day, in UTC."""
    ended_on: date | None = None
    """The first day on which it no longer holds, in UTC."""

    def link(self) -> organization_people.NewLink:
        """Return it as the service takes it."""
        return organization_people.NewLink(**self.model_dump())


class LinkPatch(Strict):
    """What to change of a link; null clears a title or a date."""

    title: str | None = None
    is_primary: StrictBool | None = None
    started_on: date | None = None
    ended_on: date | None = None

    def fields(self) -> dict[str, Any]:
        """Return what was given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: value for name, value in given.items() if value is not None or name != "is_primary"}


class OrganizationLinkOut(Strict):
    """What a person is, or was, to an organization."""

    id: UUID
    organization_id: UUID
    organization_name: str
    person_id: UUID
    first_name: str | None
    last_name: str | None
    email: str | None
    kind: organization_people.LinkKind
    title: str | None
    is_primary: bool
    started_on: date | None
    ended_on: date | None
    current: bool
    """Whether it holds today, in UTC."""
    created_at: datetime

    @classmethod
    def of(cls, linked: organization_people.Linked) -> Self:
        """Return the answer for a link."""
        beside = {"organization_name", "first_name", "last_name", "email", "current"}
        return cls.model_validate(
            {name: getattr(linked if name in beside else linked.link, name) for name in cls.model_fields}
        )


class EntryIn(Strict):
    """Something to book."""

    kind: EntryKind
    amount: Money
    """More than zero: a payment or a credit lowers the balance. Of an adjustment, what it adds: it may be negative."""
    reference: Annotated[str | None, Field(max_length=200, examples=["INV-2026-0042"])] = None
    """The invoice or payment it stands for; booked once a kind."""
    note: Annotated[str | None, Field(max_length=organization_ledger.MAX_NOTE)] = None
    due_on: date | None = None
    """Of a charge; the payment terms count unless given."""

    def entry(self) -> organization_ledger.NewEntry:
        """Return it as the service takes it."""
        return organization_ledger.NewEntry(
            kind=self.kind,
            amount_minor=self.amount.minor("amount"),
            currency=self.amount.currency,
            reference=self.reference,
            note=self.note,
            due_on=self.due_on,
        )


class LedgerEntryOut(Strict):
    """An entry of the ledger."""

    id: UUID
    number: int
    """From 1, without gaps."""
    kind: EntryKind
    amount: Money
    """What it added to the balance: negative for a payment or a credit."""
    balance: Money
    """The balance after it."""
    reference: str | None
    note: str | None
    due_on: date | None
    actor: str
    created_at: datetime

    @classmethod
    def of(cls, entry: OrganizationEntry) -> Self:
        """Return the answer for an entry."""
        plain = {name: getattr(entry, name) for name in cls.model_fields if name not in {"amount", "balance"}}
        return cls(
            **plain,
            amount=Money.of(entry.amount_minor, entry.currency),
            balance=Money.of(entry.balance_minor, entry.currency),
        )


class LedgerAccountOut(Strict):
    """Where an organization stands."""

    balance: Money
    """What it owes; negative where it is owed."""
    credit_limit: Money | None
    available: Money | None
    """What may still be charged; null without a limit."""
    payment_terms_days: int | None
    overdue: Money
    """The part of the balance that was due before today, in UTC, what was paid counting for the oldest debts first."""
    overdue_since: date | None

    @classmethod
    def of(cls, account: organization_ledger.Account) -> Self:
        """Return the answer for an account."""

        def money(minor: int | None) -> Money | None:
            return None if minor is None else Money.of(minor, account.currency)

        return cls(
            balance=Money.of(account.balance_minor, account.currency),
            credit_limit=money(account.credit_limit_minor),
            available=money(account.available_minor),
            payment_terms_days=account.payment_terms_days,
            overdue=Money.of(account.overdue_minor, account.currency),
            overdue_since=account.overdue_since,
        )
