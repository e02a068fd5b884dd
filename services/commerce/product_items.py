"""What a row of a file says of products: an object of NDJSON, or cells of CSV brought into its form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool, ValidationError

from core import currency
from core.errors import FieldProblem, InvalidError
from services.commerce.product_bulk import Given
from services.commerce.product_fields import NewPrice, ProductChange, VariantChange
from services.identity.import_cells import Cells
from services.identity.import_mapping import json_value

JSON: Final = ":json"
"""Behind a target's name: its cells hold JSON."""
VARIANT: Final = "variant."
COMPUTED: Final = frozenset({"id", "variant.id", "variant.available"})
"""Columns of an export that the platform itself says."""

_TEXTS: Final = ("key", "external_id", "name", "description", "status")
_VARIANT_TEXTS: Final = ("sku", "name", "tax_class")
_FLAGS: Final = ("active", "tracked", "backorder")
_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _exact(value: object) -> object:
    if isinstance(value, float | bool):
        raise ValueError("must be a text such as 12.50")  # noqa: TRY004 - what Pydantic shows
    return value


_Amount = Annotated[Decimal, BeforeValidator(_exact), Field(max_digits=18, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Cost(_Part):
    amount: _Amount
    currency: str
    compare_at: _Amount | None = None


class _VariantItem(_Part):
    id: JsonValue = None
    available: JsonValue = None
    sku: str
    name: str | None = None
    options: dict[str, str] | None = None
    active: StrictBool | None = None
    tracked: StrictBool | None = None
    backorder: StrictBool | None = None
    tax_class: str | None = None
    attributes: dict[str, JsonValue] | None = None
    prices: list[_Cost] | None = None


class _Item(_Part):
    id: JsonValue = None
    key: str | None = None
    external_id: str | None = None
    name: str | None = None
    description: str | None = None
    status: str | None = None
    categories: list[str] | None = None
    attributes: dict[str, JsonValue] | None = None
    variants: list[_VariantItem] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one row says."""

    line: int
    given: Given

    @property
    def identity(self) -> tuple[str, str]:
        """By what the product is known, as far as the row tells."""
        for name in ("external_id", "key"):
            if (value := self.given.change.fields.get(name)) is not None:
                return name, value
        return "sku", next((one.sku or "" for one in self.given.change.variants or ()), "")


def read_item(line: int, item: Mapping[str, Any]) -> Row:
    """Return what an object says; null is the same as absent.

    Raises:
        InvalidError: naming the member that is not acceptable.
    """
    try:
        parsed = _Item.model_validate(item)
    except ValidationError as error:
        problems = [FieldProblem(".".join(map(str, one["loc"])), one["msg"].lower()) for one in error.errors()]
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems) from error
    fields = {name: value for name in _TEXTS if (value := getattr(parsed, name)) is not None}
    variants = None
    if parsed.variants is not None:
        variants = [_variant(one, f"variants.{number}.") for number, one in enumerate(parsed.variants)]
    change = ProductChange(fields=fields, attributes=parsed.attributes, variants=variants).normalized()
    if not (fields or variants):
        raise InvalidError.of("name", "is needed, or an external_id, key or SKU of a product that is there")
    return Row(line, Given(change, parsed.categories))


def _variant(one: _VariantItem, path: str) -> VariantChange:
    names = ("name", "options", *_FLAGS, "tax_class")
    fields = {name: value for name in names if (value := getattr(one, name)) is not None}
    prices = None
    if one.prices is not None:
        prices = [_price(cost, f"{path}prices.{number}.") for number, cost in enumerate(one.prices)]
    return VariantChange(sku=one.sku, fields=fields, attributes=one.attributes, prices=prices)


def _price(cost: _Cost, path: str) -> NewPrice:
    minor: dict[str, int | None] = {}
    for name, value in (("amount", cost.amount), ("compare_at", cost.compare_at)):
        try:
            minor[name] = None if value is None else currency.to_minor(value, cost.currency)
        except ValueError as error:
            raise InvalidError.of(f"{path}{name}", str(error)) from error
    return NewPrice(currency=cost.currency, amount_minor=minor["amount"] or 0, compare_at_minor=minor["compare_at"])


Put = Callable[[dict[str, Any], str], None]
"""Puts a cell's text into an item."""


class Columns:
    """A mapping made ready for a CSV file's rows: each is a product with one variant."""

    def __init__(self, columns: Sequence[str], mapping: Mapping[str, str | None]) -> None:
        """Prepare to read rows of these columns.

        Raises:
            InvalidError: a column is not there, or its target means nothing.
        """
        self._cells: Cells[Put] = Cells(columns, mapping, _setter)

    def row(self, line: int, cells: Sequence[str]) -> Row:
        """Return what the row says; an empty cell says nothing.

        Raises:
            InvalidError: naming the target whose cell is not acceptable.
        """
        item: dict[str, Any] = {}
        for put, text in self._cells.of(cells):
            put(item, text)
        variant: dict[str, Any] | None = item.pop("variant", None)
        if variant is not None:
            if "prices" in variant:
                variant["prices"] = [{"currency": code, **cost} for code, cost in variant["prices"].items()]
            item["variants"] = [variant]
        try:
            return read_item(line, item)
        except InvalidError as error:
            errors = [FieldProblem(one.field.replace("variants.0.", VARIANT), one.reason) for one in error.errors]
            raise InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors) from error


def putter(target: str) -> Put | None:
    """Return what takes cells for a target; None where it means nothing."""
    plain = target.removesuffix(JSON)
    as_json = target if plain != target else None
    first, _, rest = plain.partition(".")
    if plain in _TEXTS and as_json is None:
        return lambda item, text: item.update({plain: text})
    if plain == "categories":
        return lambda item, text: item.update(categories=_list(text) if as_json is None else json_value(text, target))
    if plain == "attributes" and as_json is not None:
        return lambda item, text: item.setdefault("attributes", {}).update(_object(text, target))
    if first == "attributes" and rest:
        return lambda item, text: item.setdefault("attributes", {}).update({rest: _cell(text, as_json)})
    if first in {"price", "compare_at"} and rest in currency.EXPONENTS:
        name = "amount" if first == "price" else "compare_at"
        return lambda item, text: _of(item).setdefault("prices", {}).setdefault(rest, {}).update({name: text})
    return _variant_putter(plain, target, as_json)


def _setter(target: str) -> tuple[str, Put]:
    put = putter(target)
    if put is None:
        raise InvalidError.of("mapping", f"{target} is nothing that a product has")
    return target, put


def _variant_putter(plain: str, target: str, as_json: str | None) -> Put | None:
    name = plain.removeprefix(VARIANT)
    if name == plain:
        return None
    first, _, rest = name.partition(".")
    if name in _VARIANT_TEXTS and as_json is None:
        return lambda item, text: _of(item).update({name: text})
    if name in _FLAGS and as_json is None:
        return lambda item, text: _of(item).update({name: _flag(text, target)})
    if name in {"options", "attributes"} and as_json is not None:
        return lambda item, text: _of(item).setdefault(name, {}).update(_object(text, target))
    if first in {"options", "attributes"} and rest:
        return lambda item, text: _of(item).setdefault(first, {}).update({rest: _cell(text, as_json)})
    return None


def _list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _of(item: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", item.setdefault("variant", {}))


def _cell(text: str, as_json: str | None) -> JsonValue:
    return text if as_json is None else json_value(text, as_json)


def _object(text: str, target: str) -> dict[str, JsonValue]:
    value = json_value(text, target)
    if not isinstance(value, dict):
        raise InvalidError.of(target, "must be a JSON object")
    return value


def _flag(text: str, target: str) -> bool:
    if text.lower() not in _WORDS:
        raise InvalidError.of(target, "must be true or false")
    return _WORDS[text.lower()]
