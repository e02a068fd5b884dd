"""What an organization owes us: a ledger that is only ever added to, and the balance it makes."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, text

from contracts.events import ENTRY_BOOKED
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Organization, OrganizationEntry
from services.events.publish import NewEvent, publish
from services.identity import normalize, organizations
from services.shared import activity

MAX_NOTE: Final = 2_000

# The debts in the order they were made, each paid by what is left of all that was paid when those before it are.
_OVERDUE = text("""
    WITH debt AS (
      SELECT number, due_on, amount_minor,
             sum(amount_minor) OVER (ORDER BY number) AS up_to,
             (SELECT coalesce(-sum(amount_minor), 0) FROM organization_entry
              WHERE tenant_id = :tenant AND organization_id = :organization AND amount_minor < 0) AS paid
      FROM organization_entry
      WHERE tenant_id = :tenant AND organization_id = :organization AND amount_minor > 0
    )
    SELECT coalesce(sum(least(amount_minor, up_to - paid)), 0) AS overdue_minor, min(due_on) AS since
    FROM debt WHERE up_to > paid AND due_on < :today
""")


class CreditLimitError(ConflictError):
    """A charge goes beyond the credit limit; `extra` says what is available."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """Something to book."""

    kind: str
    """`charge`, `payment`, `credit` or `adjustment`."""
    amount_minor: int
    """Positive; of an adjustment, what it adds to the debt, so it may be negative."""
    currency: str
    reference: str | None = None
    """The invoice or payment it stands for: a kind and reference are booked once."""
    note: str | None = None
    due_on: date | None = None
    """Of a charge; unless given, the organization's payment terms from today on."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where an organization stands."""

    currency: str
    balance_minor: int
    """What it owes us; negative where we owe it."""
    credit_limit_minor: int | None
    available_minor: int | None
    """What may still be charged, never negative; None without a limit."""
    payment_terms_days: int | None
    overdue_minor: int
    """The part of the balance that should have been paid before today, in UTC."""
    overdue_since: date | None
    """The earliest due date of that part."""


async def book(
    session: TenantSession, organization_id: UUID, entry: NewEntry, *, by: Actor
) -> tuple[OrganizationEntry, bool]:
    """Book an entry; return it, and whether it is new: a kind and reference booked before give the first one.

    Raises:
        NotFoundError: no such organization in this tenant.
        InvalidError: a value is not acceptable, or the currency is not the organization's.
        ConflictError: the reference was booked with other values.
        CreditLimitError: a charge goes beyond the credit limit.
    """
    reference, note = _checked(entry)
    organization = await organizations.locked(session, organization_id)
    if organization is None:
        raise NotFoundError("No such organization.")
    if entry.currency != organization.currency:
        raise InvalidError.of("amount.currency", f"must be the organization's currency, {organization.currency}")
    amount = -entry.amount_minor if entry.kind in {"payment", "credit"} else entry.amount_minor
    if reference is not None:
        first = await _booked(session, organization_id, entry.kind, reference)
        if first is not None:
            _check_same(first, amount, note, entry.due_on)
            return first, False
    if entry.kind == "charge":
        _check_limit(organization, amount)
    balance = organization.balance_minor + amount
    if abs(balance) > currency.MAX_MINOR:
        raise InvalidError.of("amount.amount", "would make the balance too large")
    booked = OrganizationEntry(
        tenant_id=session.tenant_id,
        id=new_id(),
        organization_id=organization_id,
        number=await _last_number(session, organization_id) + 1,
        kind=entry.kind,
        amount_minor=amount,
        balance_minor=balance,
        currency=organization.currency,
        reference=reference,
        note=note,
        due_on=_due(entry, organization),
        actor=by.name,
    )
    session.add(booked)
    before, organization.balance_minor = organization.balance_minor, balance
    await session.flush()
    await session.refresh(booked)
    await _report(session, booked, before, by=by)
    return booked, True


async def page(
    session: TenantSession, organization_id: UUID, *, limit: int, before: int | None
) -> list[OrganizationEntry]:
    """Return up to `limit` entries, the last booked first, those with a lower number than `before` only."""
    statement = select(OrganizationEntry).where(
        OrganizationEntry.tenant_id == session.tenant_id, OrganizationEntry.organization_id == organization_id
    )
    if before is not None:
        statement = statement.where(OrganizationEntry.number < before)
    return list(await session.scalars(statement.order_by(OrganizationEntry.number.desc()).limit(limit)))


async def account(session: TenantSession, organization: Organization) -> Account:
    """Return where the organization stands today."""
    values = {"tenant": session.tenant_id, "organization": organization.id, "today": datetime.now(UTC).date()}
    row = (await session.execute(_OVERDUE, values)).one()
    return Account(
        currency=organization.currency,
        balance_minor=organization.balance_minor,
        credit_limit_minor=organization.credit_limit_minor,
        available_minor=_available(organization),
        payment_terms_days=organization.payment_terms_days,
        overdue_minor=int(row.overdue_minor),
        overdue_since=row.since,
    )


def _checked(entry: NewEntry) -> tuple[str | None, str | None]:
    """Return reference and note in the spelling the store has."""
    if entry.amount_minor == 0 or (entry.kind != "adjustment" and entry.amount_minor < 0):
        raise InvalidError.of(
            "amount.amount", "must not be zero" if entry.kind == "adjustment" else "must be more than zero"
        )
    if entry.due_on is not None and entry.kind != "charge":
        raise InvalidError.of("due_on", "is of charges alone")
    if entry.note is not None and len(entry.note) > MAX_NOTE:
        raise InvalidError.of("note", f"must have at most {MAX_NOTE} characters")
    reference = None if entry.reference is None else normalize.line(entry.reference, "reference")
    return reference, (entry.note or "").strip() or None


async def _booked(session: TenantSession, organization_id: UUID, kind: str, reference: str) -> OrganizationEntry | None:
    return await session.scalar(
        select(OrganizationEntry).where(
            OrganizationEntry.tenant_id == session.tenant_id,
            OrganizationEntry.organization_id == organization_id,
            OrganizationEntry.kind == kind,
            OrganizationEntry.reference == reference,
        )
    )


def _check_same(first: OrganizationEntry, amount: int, note: str | None, due_on: date | None) -> None:
    differs = [
        field
        for field, same in (
            ("amount", first.amount_minor == amount),
            ("note", first.note == note),
            ("due_on", due_on is None or first.due_on == due_on),
        )
        if not same
    ]
    if differs:
        raise ConflictError(
            f"The {first.kind} {first.reference} was booked before, as entry {first.number}, with another"
            f" {' and '.join(differs)}.",
            errors=[FieldProblem(field, f"is not that of entry {first.number}") for field in differs],
            extra={"entry_id": str(first.id)},
        )


def _available(organization: Organization) -> int | None:
    if organization.credit_limit_minor is None:
        return None
    return max(organization.credit_limit_minor - organization.balance_minor, 0)


def _check_limit(organization: Organization, amount: int) -> None:
    available = _available(organization)
    if available is None or amount <= available:
        return
    left = str(currency.from_minor(available, organization.currency))
    raise CreditLimitError(
        f"The charge goes beyond the credit limit: {left} {organization.currency} is available.",
        errors=[FieldProblem("amount.amount", f"is more than the {left} {organization.currency} available")],
        extra={"available": {"amount": left, "currency": organization.currency}},
    )


async def _last_number(session: TenantSession, organization_id: UUID) -> int:
    number = await session.scalar(
        select(func.max(OrganizationEntry.number)).where(
            OrganizationEntry.tenant_id == session.tenant_id, OrganizationEntry.organization_id == organization_id
        )
    )
    return number or 0


def _due(entry: NewEntry, organization: Organization) -> date | None:
    if entry.kind != "charge" or entry.due_on is not None or organization.payment_terms_days is None:
        return entry.due_on
    return datetime.now(UTC).date() + timedelta(days=organization.payment_terms_days)


async def _report(session: TenantSession, entry: OrganizationEntry, before: int, *, by: Actor) -> None:
    def shown(minor: int) -> str:
        return f"{currency.from_minor(minor, entry.currency)} {entry.currency}"

    changes = {
        "balance": (shown(before), shown(entry.balance_minor)),
        "entry": (None, entry.number),
        **({"reference": (None, entry.reference)} if entry.reference else {}),
    }
    await activity.record(
        session,
        by=by,
        subject_type="organization",
        subject_id=entry.organization_id,
        type=ENTRY_BOOKED,
        changes=changes,
    )
    properties = {
        "entry_id": str(entry.id),
        "kind": entry.kind,
        "amount": str(currency.from_minor(entry.amount_minor, entry.currency)),
        "balance": str(currency.from_minor(entry.balance_minor, entry.currency)),
        "currency": entry.currency,
    }
    await publish(
        session,
        [NewEvent(ENTRY_BOOKED, entry.organization_id, subject_type="organization", properties=properties)],
    )
