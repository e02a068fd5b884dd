"""What a caller may say of products and their variants, in the spelling the store has."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue

from core.currency import EXPONENTS
from core.errors import FieldProblem, InvalidError
from models.catalogue import PRODUCT_STATUSES
from services.identity import attributes, normalize

MAX_VARIANTS: Final = 250
"""Of one product."""
MAX_PRICES: Final = 100
"""Of one variant: one for each currency."""
MAX_CATEGORIES: Final = 100
"""That one product stands in."""
MAX_SKU: Final = 100
MAX_DESCRIPTION: Final = 20_000
MAX_OPTIONS: Final = 10
MAX_PRICE: Final = 10**13
"""In the currency's smallest unit: many pieces of it still add up to what the store holds."""

_KEY: Final = re.compile(r"[a-z0-9][a-z0-9_\-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrice:
    """What a variant is to cost in a currency, in its smallest unit."""

    currency: str
    amount_minor: int
    compare_at_minor: int | None = None
    """What it cost before; more than `amount_minor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantChange:
    """What is to be true of a variant; what is not named stays, or of a new one is the table's default."""

    sku: str | None = None
    """What it is known by; needed but where the variant is known otherwise."""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of `name`, `options`, `active`, `tracked`, `backorder` and `tax_class`."""
    attributes: Mapping[str, JsonValue] | None = None
    """Merged key by key; None inside removes."""
    prices: Sequence[NewPrice] | None = None
    """All it has from then on; None: they stay."""

    def normalized(self, path: str = "") -> "VariantChange":
        """Return the change as the store spells it; fields are named behind `path`, as in `variants.0.`.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        fields = dict(self.fields)
        sku = self.sku
        if sku is not None:
            sku = _checked(problems, lambda: sku_of(self.sku or "", f"{path}sku"))
        if fields.get("name") is not None:
            fields["name"] = _checked(problems, lambda: normalize.line(fields["name"], f"{path}name"))
        if "options" in fields:
            problems += _problems_of_options(fields["options"] or {}, f"{path}options")
        if "tax_class" in fields and _KEY.fullmatch(fields["tax_class"]) is None:
            problems.append(
                FieldProblem(f"{path}tax_class", "must be a key of lower case letters, digits, _ and -, at most 63")
            )
        _check_attributes(self.attributes or {}, path, problems)
        problems += _problems_of_prices(self.prices or (), f"{path}prices")
        _refuse(problems)
        return VariantChange(sku=sku, fields=fields, attributes=self.attributes, prices=self.prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductChange:
    """What is to be true of a product; what is not named stays."""

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of `key`, `name`, `description`, `status` and `external_id`; None clears the description and the external id."""
    attributes: Mapping[str, JsonValue] | None = None
    """Merged key by key; None inside removes."""
    categories: Sequence[UUID] | None = None
    """All it stands in from then on."""
    variants: Sequence[VariantChange] | None = None
    """Known by their SKUs."""
    whole: bool = False
    """Whether this is all there is to say: attributes and variants not named go."""

    def normalized(self) -> "ProductChange":
        """Return the change as the store spells it.

        Raises:
            InvalidError: a value is not acceptable; every field at fault is named.
        """
        problems: list[FieldProblem] = []
        fields = dict(self.fields)
        if fields.get("name") is not None:
            fields["name"] = _checked(problems, lambda: normalize.line(fields["name"], "name"))
        if fields.get("external_id") is not None:
            fields["external_id"] = _checked(problems, lambda: normalize.external_id(fields["external_id"]))
        if fields.get("description") is not None and len(fields["description"]) > MAX_DESCRIPTION:
            problems.append(FieldProblem("description", f"must have at most {MAX_DESCRIPTION} characters"))
        if "status" in fields and fields["status"] not in PRODUCT_STATUSES:
            problems.append(FieldProblem("status", f"must be one of {', '.join(PRODUCT_STATUSES)}"))
        named = {problem.field for problem in problems}
        problems += [
            FieldProblem(name, "must not be empty")
            for name in ("key", "name")
            if name in fields and not fields[name] and name not in named
        ]
        if fields.get("key") and _KEY.fullmatch(fields["key"]) is None:
            problems.append(FieldProblem("key", "must be lower case letters, digits, _ and -, at most 63"))
        _check_attributes(self.attributes or {}, "", problems)
        if len(self.categories or ()) > MAX_CATEGORIES:
            problems.append(FieldProblem("category_ids", f"may be at most {MAX_CATEGORIES}"))
        variants = None if self.variants is None else _variants(self.variants, problems)
        _refuse(problems)
        return ProductChange(
            fields=fields,
            attributes=self.attributes,
            categories=self.categories,
            variants=variants,
            whole=self.whole,
        )


def sku_of(text: str, path: str) -> str:
    """Return a SKU as it is kept: trimmed, otherwise as given.

    Raises:
        InvalidError: it is empty, too long, or holds control characters.
    """
    text = text.strip()
    if not 1 <= len(text) <= MAX_SKU:
        raise InvalidError.of(path, f"must have 1 to {MAX_SKU} characters")
    if not text.isprintable():
        raise InvalidError.of(path, "must not contain control characters")
    return text


def key_of(name: str) -> str:
    """Return a key made of a name, `Red shirt` is `red-shirt`; empty where nothing of it can be kept."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:50].strip("-")


def merged(current: Mapping[str, Any], changes: Mapping[str, JsonValue], path: str = "attributes") -> dict[str, Any]:
    """Return attributes with the changes made: a null removes, anything else replaces the whole value.

    Raises:
        InvalidError: they are too large together.
    """
    result = {name: value for name, value in (dict(current) | dict(changes)).items() if value is not None}
    if len(json.dumps(result, ensure_ascii=False).encode()) > attributes.MAX_BYTES:
        raise InvalidError.of(path, f"may take {attributes.MAX_BYTES} bytes as JSON in all")
    return result


def check_prices(prices: Sequence[NewPrice], path: str) -> None:
    """Refuse prices that no variant can have.

    Raises:
        InvalidError: naming each at fault behind `path`.
    """
    _refuse(_problems_of_prices(prices, path))


def problems_of_price(price: NewPrice, path: str) -> list[FieldProblem]:
    """Say what is wrong with one price."""
    problems: list[FieldProblem] = []
    if price.currency not in EXPONENTS:
        problems.append(FieldProblem(f"{path}.currency", "is not a currency code of ISO 4217"))
    if price.amount_minor < 0:
        problems.append(FieldProblem(f"{path}.amount", "must not be negative"))
    if max(price.amount_minor, price.compare_at_minor or 0) > MAX_PRICE:
        problems.append(FieldProblem(f"{path}.amount", f"must be at most {MAX_PRICE} of the smallest unit"))
    if price.compare_at_minor is not None and price.compare_at_minor <= price.amount_minor:
        problems.append(FieldProblem(f"{path}.compare_at", "must be more than the amount"))
    return problems


def _variants(given: Sequence[VariantChange], problems: list[FieldProblem]) -> list[VariantChange]:
    if not 1 <= len(given) <= MAX_VARIANTS:
        problems.append(FieldProblem("variants", f"must be 1 to {MAX_VARIANTS}"))
        return []
    found: list[VariantChange] = []
    seen: dict[str, int] = {}
    for number, one in enumerate(given):
        try:
            change = one.normalized(f"variants.{number}.")
        except InvalidError as error:
            problems.extend(error.errors)
            continue
        sku = change.sku or ""
        if sku in seen:
            problems.append(FieldProblem(f"variants.{number}.sku", f"is that of variants.{seen[sku]} too"))
        seen.setdefault(sku, number)
        found.append(change)
    return found


def _problems_of_prices(prices: Sequence[NewPrice], path: str) -> list[FieldProblem]:
    if len(prices) > MAX_PRICES:
        return [FieldProblem(path, f"may be at most {MAX_PRICES}")]
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for number, price in enumerate(prices):
        problems += problems_of_price(price, f"{path}.{number}")
        if price.currency in seen:
            problems.append(FieldProblem(f"{path}.{number}.currency", f"there is a price in {price.currency} already"))
        seen.add(price.currency)
    return problems


def _problems_of_options(options: Mapping[str, Any], path: str) -> list[FieldProblem]:
    if len(options) > MAX_OPTIONS:
        return [FieldProblem(path, f"may be at most {MAX_OPTIONS}")]
    return [
        FieldProblem(path, "must be texts of 1 to 100 characters by names of 1 to 40")
        for name, value in options.items()
        if not 1 <= len(name.strip()) <= 40 or not isinstance(value, str) or not 1 <= len(value.strip()) <= 100  # noqa: PLR2004 - as the sentence says
    ][:1]


def _check_attributes(given: Mapping[str, JsonValue], path: str, problems: list[FieldProblem]) -> None:
    try:
        attributes.check(given)
    except InvalidError as error:
        problems += [FieldProblem(f"{path}{problem.field}", problem.reason) for problem in error.errors]


def _checked(problems: list[FieldProblem], normalize: Any) -> Any:  # noqa: ANN401 - a text or None, as the function has it
    try:
        return normalize()
    except InvalidError as error:
        problems.extend(error.errors)
        return None


def _refuse(problems: Sequence[FieldProblem]) -> None:
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
