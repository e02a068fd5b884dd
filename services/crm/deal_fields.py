"""What a caller may say of a deal, checked and in the spelling the store has. Nothing here asks the store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue

from core import currency
from core.errors import FieldProblem, InvalidError
from core.json_text import as_text
from models.crm import INTERVALS
from services.identity import attributes, normalize

MAX_MINOR: Final = 10**18 - 1
"""As many digits as amounts have at the edge."""
MAX_LINES: Final = 500
MAX_CONTACTS: Final = 100
MAX_COMPETITORS: Final = 50
MAX_NOTE: Final = 2_000
MAX_QUANTITY: Final = 1_000_000_000
MAX_TERM: Final = 1_200
"""Months."""
TEXTS: Final = ("title", "source", "lost_reason", "external_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """What is paid again and again."""

    minor: int | None
    """None: what its recurring products cost."""
    interval: str
    term_months: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Some pieces of a product."""

    name: str
    quantity: int
    unit_minor: int
    """In the deal's currency."""
    sku: str | None = None
    discount_minor: int = 0
    """Off the whole line."""
    recurring: bool = False

    @property
    def minor(self) -> int:
        """What the line costs."""
        return self.quantity * self.unit_minor - self.discount_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A person beside the primary one who has a part in a deal."""

    person_id: UUID
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeal:
    """A deal to make."""

    title: str
    pipeline_id: UUID
    stage_id: UUID | None = None
    """None: the first open stage."""
    person_id: UUID | None = None
    organization_id: UUID | None = None
    owner_id: UUID | None = None
    amount_minor: int | None = None
    """None: what its products cost."""
    currency: str | None = None
    """None: the tenant's base currency."""
    recurring: Recurring | None = None
    probability: int | None = None
    """Percent; None: the stage's."""
    close_date: date | None = None
    lost_reason: str | None = None
    competitors: Sequence[Mapping[str, JsonValue]] = ()
    attributes: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    lines: Sequence[Line] = ()
    contacts: Sequence[Contact] = ()
    source: str | None = None
    external_id: str | None = None
    source_key: str | None = None
    """What makes it, where that may be repeated: a second deal with the same key is not made."""
    created_at: datetime | None = None
    """When it was begun, for deals that are older than their entry here; None: now."""
    closed_at: datetime | None = None
    """When it was won or lost; None: when it was begun."""

    def normalized(self) -> "NewDeal":
        """Return it in the spelling the store has.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        fields = _texts({name: getattr(self, name) for name in TEXTS}, problems)
        competitors = _competitors(self.competitors, problems)
        lines = _lines(self.lines, problems)
        contacts = _contacts(self.contacts, problems)
        _check_number(self.amount_minor, "amount.amount", 0, MAX_MINOR, problems)
        _check_attributes(self.attributes, problems)
        _check_recurring(self.recurring, problems)
        _check_number(self.probability, "probability", 0, 100, problems)
        now = datetime.now(UTC)
        if self.created_at is not None and self.created_at > now:
            problems.append(FieldProblem("created_at", "must not be in the future"))
        if self.closed_at is not None and not (self.created_at or now) <= self.closed_at <= now:
            problems.append(FieldProblem("closed_at", "must not be before created_at, nor in the future"))
        _refuse(problems)
        return replace(self, **fields, competitors=competitors, lines=lines, contacts=contacts)


@dataclass(frozen=True, slots=True)
class DealChange:
    """What a caller wants to be true of a deal; what is not named stays."""

    fields: Mapping[str, Any]
    """Of `title`, `person_id`, `organization_id`, `owner_id`, `amount_minor`, `currency`, `probability`, `close_date`,
    `lost_reason`, `source`, `external_id`, `competitors`, `recurring` (a `Recurring`), `lines` (of `Line`), where None
    clears; and `attributes`, merged key by key, where a null removes."""

    def normalized(self) -> "DealChange":
        """Return the change in the spelling the store has.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        fields = dict(self.fields)
        fields |= _texts({name: fields[name] for name in TEXTS if name in fields}, problems)
        if "competitors" in fields:
            fields["competitors"] = _competitors(fields["competitors"] or (), problems)
        if "lines" in fields:
            fields["lines"] = _lines(fields["lines"] or (), problems)
        given: Mapping[str, JsonValue] = fields.get("attributes") or {}
        fields["attributes"] = given
        _check_number(fields.get("amount_minor"), "amount.amount", 0, MAX_MINOR, problems)
        _check_attributes(given, problems)
        _check_recurring(fields.get("recurring"), problems)
        _check_number(fields.get("probability"), "probability", 0, 100, problems)
        if "currency" in fields and fields["currency"] not in currency.EXPONENTS:
            problems.append(FieldProblem("currency", "is not a currency code of ISO 4217"))
        _refuse(problems)
        return replace(self, fields=fields)


def total_of(lines: Sequence[Line], *, recurring: bool = False) -> int:
    """Return what products cost: all, or those that are paid again and again.

    Raises:
        InvalidError: more than the store holds.
    """
    minor = sum(line.minor for line in lines if line.recurring or not recurring)
    if minor > MAX_MINOR:
        raise InvalidError.of("products", "cost more than can be kept")
    return minor


def merged(current: Mapping[str, Any], changes: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return attributes with the changes made: a null removes, anything else replaces the whole value.

    Raises:
        InvalidError: they are too large together.
    """
    result = {name: value for name, value in (dict(current) | dict(changes)).items() if value is not None}
    # The limit is for JSON with its spaces, which at most double it: of most it need not be written so.
    if 2 * len(as_text(result).encode()) > attributes.MAX_BYTES < len(json.dumps(result, ensure_ascii=False).encode()):
        raise InvalidError.of("attributes", f"may take {attributes.MAX_BYTES} bytes as JSON in all")
    return result


def _refuse(problems: Sequence[FieldProblem]) -> None:
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


def _texts(given: Mapping[str, str | None], problems: list[FieldProblem]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, text in given.items():
        try:
            found[name] = None if text is None else _spelt(name, text)
        except InvalidError as error:
            problems.extend(error.errors)
            continue
        if name == "title" and found[name] is None:
            problems.append(FieldProblem("title", "must not be empty"))
    return found


def _spelt(name: str, text: str) -> str | None:
    return normalize.external_id(text, name) if name == "external_id" else normalize.line(text, name)


def _competitors(
    given: Sequence[Mapping[str, JsonValue]], problems: list[FieldProblem]
) -> list[Mapping[str, JsonValue]]:
    if len(given) > MAX_COMPETITORS:
        problems.append(FieldProblem("competitors", f"may be at most {MAX_COMPETITORS}"))
        return []
    found: list[Mapping[str, JsonValue]] = []
    for number, one in enumerate(given):
        path, name, note = f"competitors.{number}", one.get("name"), one.get("note")
        try:
            spelt = normalize.line(name, f"{path}.name") if isinstance(name, str) else None
        except InvalidError as error:
            problems.extend(error.errors)
            continue
        if spelt is None:
            problems.append(FieldProblem(f"{path}.name", "must not be empty"))
        elif note is not None and not (isinstance(note, str) and len(note) <= MAX_NOTE):
            problems.append(FieldProblem(f"{path}.note", f"must be a text of at most {MAX_NOTE} characters"))
        else:
            found.append({"name": spelt} | ({} if note is None else {"note": note}))
    return found


def _lines(given: Sequence[Line], problems: list[FieldProblem]) -> list[Line]:
    if len(given) > MAX_LINES:
        problems.append(FieldProblem("products", f"may be at most {MAX_LINES}"))
        return []
    found: list[Line] = []
    for number, line in enumerate(given):
        path = f"products.{number}"
        try:
            name = normalize.line(line.name, f"{path}.name")
            sku = None if line.sku is None else normalize.line(line.sku, f"{path}.sku")
        except InvalidError as error:
            problems.extend(error.errors)
            continue
        if name is None:
            problems.append(FieldProblem(f"{path}.name", "must not be empty"))
            continue
        count = len(problems)
        _check_number(line.quantity, f"{path}.quantity", 1, MAX_QUANTITY, problems)
        _check_number(line.unit_minor, f"{path}.unit_price.amount", 0, MAX_MINOR, problems)
        if len(problems) == count:
            if line.quantity * line.unit_minor > MAX_MINOR:
                problems.append(FieldProblem(path, "costs more than can be kept"))
            elif not 0 <= line.discount_minor <= line.quantity * line.unit_minor:
                problems.append(FieldProblem(f"{path}.discount.amount", "must be from 0 to what the line costs"))
        found.append(replace(line, name=name, sku=sku))
    return found


def _contacts(given: Sequence[Contact], problems: list[FieldProblem]) -> list[Contact]:
    if len(given) > MAX_CONTACTS:
        problems.append(FieldProblem("contacts", f"may be at most {MAX_CONTACTS}"))
        return []
    found: list[Contact] = []
    for number, contact in enumerate(given):
        try:
            found.append(replace(contact, role=role_of(contact.role, f"contacts.{number}.role")))
        except InvalidError as error:
            problems.extend(error.errors)
    return found


def normalized_reason(text: str | None) -> str | None:
    """Return why a deal was lost as it is kept.

    Raises:
        InvalidError: it is too long, or holds control characters.
    """
    return None if text is None else normalize.line(text, "lost_reason")


def role_of(text: str | None, path: str = "role") -> str | None:
    """Return a contact's role as it is kept.

    Raises:
        InvalidError: it is too long, or holds control characters.
    """
    return None if text is None else normalize.line(text, path)


def _check_attributes(given: Mapping[str, JsonValue], problems: list[FieldProblem]) -> None:
    try:
        attributes.check(given)
    except InvalidError as error:
        problems.extend(error.errors)


def _check_recurring(given: Recurring | None, problems: list[FieldProblem]) -> None:
    if given is None:
        return
    if given.interval not in INTERVALS:
        problems.append(FieldProblem("recurring.interval", f"must be one of {', '.join(INTERVALS)}"))
    _check_number(given.minor, "recurring.amount.amount", 0, MAX_MINOR, problems)
    _check_number(given.term_months, "recurring.term_months", 1, MAX_TERM, problems)


def _check_number(value: int | None, path: str, least: int, most: int, problems: list[FieldProblem]) -> None:
    if value is None or least <= value <= most:
        return
    if most == MAX_MINOR:
        problems.append(FieldProblem(path, "must not be negative" if value < least else "is too large"))
    else:
        problems.append(FieldProblem(path, f"must be from {least} to {most}"))
