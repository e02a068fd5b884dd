"""Products as a file: CSV with a row for each variant, or NDJSON with an object for each product; a page at a time."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from core import currency
from core.database import TenantSession
from models import Category, Price
from services.commerce import catalogue, product_directory
from services.commerce.catalogue import Offered, Shown
from services.commerce.product_directory import Filter
from services.identity.exports import FileFormat, csv_lines
from services.identity.import_upload import Begin

PAGE: Final = 200
"""Products, each with up to 250 variants."""

_OF_PRODUCT: Final = ("id", "key", "external_id", "name", "description", "status", "categories:json", "attributes:json")
_OF_VARIANT: Final = (
    *("variant.id", "variant.sku", "variant.name", "variant.options:json", "variant.active", "variant.tracked"),
    *("variant.backorder", "variant.tax_class", "variant.attributes:json", "variant.available"),
)


async def texts(begin: Begin, wanted: Filter, file_format: FileFormat) -> AsyncGenerator[tuple[str, int]]:
    """Yield the file a part at a time, each with how many products it holds; a transaction a part, so none stays open.

    Newest first. The CSV has a column `price.CODE` and one `compare_at.CODE` for each currency something costs anything
    in.
    """
    codes: Sequence[str] = ()
    if file_format == "csv":
        async with begin() as session:
            codes = await _currencies(session)
        money = [f"{name}.{code}" for code in codes for name in ("price", "compare_at")]
        yield csv_lines([[*_OF_PRODUCT, *_OF_VARIANT, *money]]), 0
    before: UUID | None = None
    while True:
        async with begin() as session:
            found = await product_directory.page(session, wanted, limit=PAGE, before=before)
            shown = await catalogue.shown(session, found)
            keys = await _keys(session, {one for each in shown for one in each.category_ids})
        items = [_item(one, keys) for one in shown]
        if file_format == "csv":
            yield csv_lines(row for item in items for row in _rows(item, codes)), len(items)
        else:
            yield "".join(f"{_json(item)}\n" for item in items), len(items)
        if len(found) < PAGE:
            return
        before = found[-1].id


async def _currencies(session: TenantSession) -> list[str]:
    rows = await session.scalars(
        select(Price.currency).where(Price.tenant_id == session.tenant_id).distinct().order_by(Price.currency)
    )
    return list(rows)


async def _keys(session: TenantSession, ids: set[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    rows = await session.execute(
        select(Category.id, Category.key).where(Category.tenant_id == session.tenant_id, Category.id.in_(ids))
    )
    return {row.id: row.key for row in rows}


def _item(one: Shown, keys: Mapping[UUID, str]) -> dict[str, Any]:
    """Return a product as an object of NDJSON."""
    product = one.product
    return {
        "id": str(product.id),
        "key": product.key,
        "external_id": product.external_id,
        "name": product.name,
        "description": product.description,
        "status": product.status,
        "categories": sorted(keys[each] for each in one.category_ids if each in keys),
        "attributes": product.attributes,
        "variants": [_variant(each) for each in one.variants],
    }


def _variant(one: Offered) -> dict[str, Any]:
    row = one.variant
    return {
        "id": str(row.id),
        "sku": row.sku,
        "name": row.name,
        "options": row.options,
        "active": row.active,
        "tracked": row.tracked,
        "backorder": row.backorder,
        "tax_class": row.tax_class,
        "attributes": row.attributes,
        "prices": [
            {
                "amount": _amount(price.amount_minor, price.currency),
                "currency": price.currency,
                "compare_at": _amount(price.compare_at_minor, price.currency),
            }
            for price in one.prices
        ],
        "available": one.available,
    }


def _rows(item: Mapping[str, Any], codes: Sequence[str]) -> Iterator[list[str]]:
    product = [_cell(item, name) for name in _OF_PRODUCT]
    for variant in item["variants"]:
        own = [_cell(variant, name.removeprefix("variant.")) for name in _OF_VARIANT]
        costs = {price["currency"]: price for price in variant["prices"]}
        money = [_text(costs.get(code, {}).get(name)) for code in codes for name in ("amount", "compare_at")]
        yield [*product, *own, *money]


def _cell(item: Mapping[str, Any], column: str) -> str:
    name = column.removesuffix(":json")
    if name != column:
        return _json(item[name]) if item[name] else ""
    return _text(item[name])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _amount(minor: int | None, code: str) -> str | None:
    return None if minor is None else str(currency.from_minor(minor, code))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
