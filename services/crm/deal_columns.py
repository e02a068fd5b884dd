"""What a row of a file says of a deal: columns of CSV, or members of an NDJSON object, taken for a deal's fields.

A target takes a cell's text as it takes a JSON value, so that both kinds of files are read by the same setters.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

from core import currency
from core.errors import InvalidError
from services.identity import attributes, normalize
from services.identity.import_cells import Cells
from services.identity.import_mapping import json_value

ID: Final = "id"
JSON: Final = ":json"
"""Behind a target's name: its cells hold JSON."""
NESTED: Final = ("person", "organization", "recurring")
"""Members of NDJSON whose own members are targets, as `person.email`."""
PERSON_BY: Final = ("id", "external_id", "email", "phone")
ORGANIZATION_BY: Final = ("id", "external_id", "domain", "name")
"""What a row may name somebody by; of several the first that finds anybody counts."""
COMPUTED: Final = frozenset({"status", "base_amount", "base_currency", "stage_entered_at", "updated_at"})
"""Fields of an export that the platform itself says."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_LONGEST_INTEGER: Final = 10


@dataclass(slots=True, kw_only=True)
class Product:
    """Some pieces of a product, their price not yet in a currency."""

    name: str
    unit_price: Decimal
    sku: str | None = None
    quantity: int = 1
    discount: Decimal | None = None
    recurring: bool = False


@dataclass(slots=True)
class DealRow:
    """What one row says."""

    line: int
    id: UUID | None = None
    """Of an exported deal: it means that one, if it is there."""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    """Those of `deal_fields.NewDeal` that need nothing of the store."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """By target: what `pipeline`, `stage`, `owner`, `person.X` and `organization.X` are called."""
    amounts: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """`amount` and `recurring.amount`."""
    currency: str | None = None
    interval: str | None = None
    term_months: int | None = None
    products: list[Product] | None = None

    def in_currency(self, code: str, target: str) -> None:
        """Note the currency of an amount.

        Raises:
            InvalidError: it is no currency, or another than one named before.
        """
        if code not in currency.EXPONENTS:
            raise InvalidError.of(target, "is not a currency code of ISO 4217")
        if self.currency not in {None, code}:
            raise InvalidError.of(target, f"must be the deal's currency, {self.currency}")
        self.currency = code

    def complete(self) -> "DealRow":
        """Check that the row says something that belongs together.

        Raises:
            InvalidError: it does not.
        """
        if ("recurring.amount" in self.amounts or self.term_months is not None) and self.interval is None:
            raise InvalidError.of("recurring.interval", "is needed where there is a recurring amount or a term")
        if self.id is None and not (self.fields or self.names):
            raise InvalidError.of("title", "is needed, or an external_id or id of a deal that is there")
        return self


Setter = Callable[[DealRow, object], None]
"""Takes a text that is not empty, or a JSON value that is not null."""


class Columns:
    """A mapping made ready for a CSV file's rows."""

    def __init__(self, columns: Sequence[str], mapping: Mapping[str, str | None]) -> None:
        """Prepare to read rows of these columns.

        Raises:
            InvalidError: a column is not there, or its target means nothing.
        """
        self._cells: Cells[Setter] = Cells(columns, mapping, lambda target: (target, setter(target)))

    def row(self, line: int, cells: Sequence[str]) -> DealRow:
        """Return what the row says; an empty cell says nothing.

        Raises:
            InvalidError: naming the target whose cell is not acceptable.
        """
        row = DealRow(line)
        for put, text in self._cells.of(cells):
            put(row, text)
        return row.complete()


def read_item(line: int, item: Mapping[str, Any]) -> DealRow:
    """Return what an object of an NDJSON file says; null is the same as absent.

    Raises:
        InvalidError: naming the member that is not acceptable.
    """
    row = DealRow(line)
    for name, value in item.items():
        if name in NESTED and isinstance(value, dict):
            for inner, part in cast("dict[str, object]", value).items():
                _put_member(row, f"{name}.{inner}", part)
        else:
            _put_member(row, name, value)
    return row.complete()


def _put_member(row: DealRow, name: str, value: object) -> None:
    if value is None or name in COMPUTED:
        return
    put = _PUT.get(name)
    if put is None:
        raise InvalidError.of(name[:100], "is not a known field")
    put(row, value)


def setter(target: str) -> Setter:
    """Return what puts a cell into the target.

    Raises:
        InvalidError: it is not a target.
    """
    plain = target.removesuffix(JSON)
    as_json = plain != target
    if plain.startswith("attributes."):
        key = plain.removeprefix("attributes.")
        attributes.check({key: None})
        return partial(_put_attribute, key, target if as_json else None)
    if plain in _STRUCTURED and as_json:
        return partial(_put_json, plain, _PUT[plain])
    if as_json or plain not in _PUT or plain in _STRUCTURED - {"competitors"}:
        raise InvalidError.of("mapping", f"{target[:100]!r} is not a field of a deal; see docs/imports.md")
    return _PUT[plain]


def _put_json(target: str, put: Setter, row: DealRow, value: object) -> None:
    put(row, json_value(_text(value, target), target))


def _put_attribute(key: str, as_json: str | None, row: DealRow, value: object) -> None:
    text = _text(value, f"attributes.{key}")
    row.fields.setdefault("attributes", {})[key] = text if as_json is None else json_value(text, as_json)


def _text(value: object, target: str) -> str:
    if not isinstance(value, str):
        raise InvalidError.of(target, "must be a text")
    return value


def _integer(value: object, target: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _LONGEST_INTEGER:
        return int(value)
    raise InvalidError.of(target, "must be a whole number")


def _decimal(value: object, target: str) -> Decimal:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or _NUMBER.fullmatch(text) is None:
        raise InvalidError.of(target, "must be an amount such as 1250.50, without separators of thousands")
    try:
        return Decimal(text)
    except InvalidOperation as error:  # pragma: no cover - the pattern lets none through
        raise InvalidError.of(target, "is not a number") from error


def _amount(row: DealRow, value: object, target: str) -> Decimal:
    """Return an amount, given alone or as `{"amount", "currency"}`."""
    if not isinstance(value, dict):
        return _decimal(value, target)
    money = cast("dict[str, object]", value)
    if money.keys() != {"amount", "currency"}:
        raise InvalidError.of(target, "must have amount and currency")
    row.in_currency(_text(money["currency"], f"{target}.currency"), f"{target}.currency")
    return _decimal(money["amount"], f"{target}.amount")


def _put_id(row: DealRow, value: object) -> None:
    try:
        row.id = UUID(_text(value, ID))
    except ValueError as error:
        raise InvalidError.of(ID, "is not a UUID") from error


def _put_text(name: str, row: DealRow, value: object) -> None:
    row.fields[name] = _text(value, name)


def _put_external_id(row: DealRow, value: object) -> None:
    row.fields["external_id"] = normalize.external_id(_text(value, "external_id"))


def _put_name(target: str, normal: Callable[[str, str], str], row: DealRow, value: object) -> None:
    row.names[target] = normal(_text(value, target), target)


def _called(text: str, target: str) -> str:
    found = normalize.line(text, target)
    if found is None:
        raise InvalidError.of(target, "must not be empty")
    return found


def _named_id(text: str, target: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InvalidError.of(target, "is not a UUID") from error


def _put_amount(target: str, row: DealRow, value: object) -> None:
    row.amounts[target] = _amount(row, value, target)


def _put_currency(row: DealRow, value: object) -> None:
    row.in_currency(_text(value, "currency").upper(), "currency")


def _put_interval(row: DealRow, value: object) -> None:
    row.interval = _text(value, "recurring.interval")


def _put_term(row: DealRow, value: object) -> None:
    row.term_months = _integer(value, "recurring.term_months")


def _put_probability(row: DealRow, value: object) -> None:
    row.fields["probability"] = _integer(value, "probability")


def _put_day(row: DealRow, value: object) -> None:
    try:
        row.fields["close_date"] = date.fromisoformat(_text(value, "close_date")[:10])
    except ValueError as error:
        raise InvalidError.of("close_date", "must be a day, as 2026-01-31") from error


def _put_time(name: str, row: DealRow, value: object) -> None:
    text = _text(value, name)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError.of(name, "must be a time of RFC 3339, as 2026-01-31T12:00:00Z, or a day") from error
    if found.tzinfo is None and len(text) > len("2026-01-31"):
        raise InvalidError.of(name, "must have an offset, as 2026-01-31T12:00:00Z")
    row.fields[name] = found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _put_competitors(row: DealRow, value: object) -> None:
    if isinstance(value, str):
        try:
            (names,) = csv.reader([" ".join(value.split()).replace(";", ",")], skipinitialspace=True)
        except csv.Error as error:
            raise InvalidError.of("competitors", "is not a list") from error
        value = [name.strip() for name in names if name.strip()]
    if not isinstance(value, list):
        raise InvalidError.of("competitors", "must be a list")
    row.fields["competitors"] = [
        {"name": one} if isinstance(one, str) else _members(one, f"competitors.{number}", {"name", "note"})
        for number, one in enumerate(cast("list[object]", value))
    ]


def _put_products(row: DealRow, value: object) -> None:
    if not isinstance(value, list):
        raise InvalidError.of("products", "must be a list")
    row.products = [_product(row, one, f"products.{n}") for n, one in enumerate(cast("list[object]", value))]


def _product(row: DealRow, value: object, path: str) -> Product:
    given = _members(value, path, {"name", "sku", "quantity", "unit_price", "discount", "recurring"})
    recurring = given.get("recurring", False)
    if not isinstance(recurring, bool):
        raise InvalidError.of(f"{path}.recurring", "must be true or false")
    discount, sku = given.get("discount"), given.get("sku")
    return Product(
        name=_text(given.get("name"), f"{path}.name"),
        unit_price=_amount(row, given.get("unit_price"), f"{path}.unit_price"),
        sku=None if sku is None else _text(sku, f"{path}.sku"),
        quantity=_integer(given.get("quantity", 1), f"{path}.quantity"),
        discount=None if discount is None else _amount(row, discount, f"{path}.discount"),
        recurring=recurring,
    )


def _members(value: object, path: str, known: set[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidError.of(path, "must be an object")
    given = cast("dict[str, object]", value)
    for name in given:
        if name not in known:
            raise InvalidError.of(f"{path}.{name}"[:100], "is not a known field")
    return given


def _put_attributes(row: DealRow, value: object) -> None:
    if not isinstance(value, dict):
        raise InvalidError.of("attributes", "must be an object")
    row.fields.setdefault("attributes", {}).update(cast("dict[str, Any]", value))


_STRUCTURED: Final = frozenset({"attributes", "competitors", "products"})
"""Targets that are JSON in a cell."""
_PUT: Final[Mapping[str, Setter]] = {
    ID: _put_id,
    **{name: partial(_put_text, name) for name in ("title", "lost_reason", "source")},
    "external_id": _put_external_id,
    **{name: partial(_put_name, name, _called) for name in ("pipeline", "stage", "organization.name")},
    "owner": partial(_put_name, "owner", normalize.email),
    **{f"person.{kind}": partial(_put_name, f"person.{kind}", normalize.BY_KIND[kind]) for kind in PERSON_BY[1:]},
    "organization.external_id": partial(_put_name, "organization.external_id", normalize.external_id),
    "organization.domain": partial(_put_name, "organization.domain", normalize.domain),
    **{name: partial(_put_name, name, _named_id) for name in ("person.id", "organization.id")},
    **{name: partial(_put_amount, name) for name in ("amount", "recurring.amount")},
    "currency": _put_currency,
    "recurring.interval": _put_interval,
    "recurring.term_months": _put_term,
    "probability": _put_probability,
    "close_date": _put_day,
    **{name: partial(_put_time, name) for name in ("created_at", "closed_at")},
    "competitors": _put_competitors,
    "products": _put_products,
    "attributes": _put_attributes,
}
