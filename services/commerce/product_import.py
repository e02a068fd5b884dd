"""Files of products: what their columns are taken for, and pages of them taken in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, PlatformError
from services.commerce import product_bulk
from services.commerce.product_bulk import Given
from services.commerce.product_items import COMPUTED, VARIANT, Columns, Row, putter, read_item
from services.identity.import_files import Detected, Reading
from services.identity.import_kinds import Contents, Kinds, Served
from services.identity.import_options import validated
from services.identity.import_presets import REJECTED
from services.identity.import_rows import RawRow
from services.identity.import_target import Kind, Mapped, Refused, Tally
from services.identity.import_write import VanishedError
from services.shared.starts import COMMERCE

PRODUCT: Final = "product"
OF_PRODUCTS: Final = Contents(PRODUCT)
MAX_AT_ONCE: Final = 1_000
"""Products, and variants, written by one statement: further ones of a page are taken after them."""

_EXPORT: Final = frozenset({"id", "key", "status", "variant.sku", "variant.tracked"})
"""Columns that an export of products alone has together."""
_NAMES: Final[Mapping[str, str]] = {
    "id": "external_id",
    "product_id": "external_id",
    "handle": "key",
    "slug": "key",
    "title": "name",
    "product": "name",
    "product_name": "name",
    "body": "description",
    "category": "categories",
    "sku": "variant.sku",
    "variant_sku": "variant.sku",
    "variant": "variant.name",
    "variant_name": "variant.name",
    "variant_title": "variant.name",
    "size": "variant.options.size",
    "color": "variant.options.color",
    "colour": "variant.options.colour",
    "tax_class": "variant.tax_class",
    "backorder": "variant.backorder",
}


class ProductOptions(BaseModel):
    """How a file of products is to be read and taken in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Literal[",", ";", "\t"] | None = None
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"
    existing: Literal["update", "skip"] = "update"
    """What becomes of products that are there already."""

    @property
    def preset(self) -> None:
        """No other system's exports are known."""
        return

    def stored(self) -> dict[str, Any]:
        """Return all options as JSON."""
        return self.model_dump(mode="json")


class Products:
    """Takes products in."""

    def __init__(self, reader: Columns | None, options: ProductOptions) -> None:
        """Read rows of CSV by `reader`, of NDJSON without."""
        self._reader = reader
        self._options = options

    def change(self, row: RawRow) -> Row:
        """Return what a row says; see `import_target.Target`."""
        return read_item(row.line, row.item or {}) if self._reader is None else self._reader.row(row.line, row.cells)

    async def take(self, session: TenantSession, changes: Sequence[Row], *, by: Actor) -> Tally:
        """Take a page in; see `import_target.Target`. Rows of one product that say the same are taken in turn."""
        tally = Tally()
        rest: Sequence[Row] = changes
        while rest:
            groups, rest = _parted(rest)
            await self._write(session, groups, tally, by=by)
        return tally

    async def look(self, session: TenantSession, changes: Sequence[Row]) -> Tally:
        """Say what would be: take the page in, and take that back."""
        async with session.begin_nested() as savepoint:
            tally = await self.take(session, changes, by=Actor("check"))
            await savepoint.rollback()
        return tally

    async def _write(self, session: TenantSession, groups: Sequence[list[Row]], tally: Tally, *, by: Actor) -> None:
        try:
            async with session.begin_nested():
                given = [_joined(rows) for rows in groups]
                written = await product_bulk.upsert_all(session, given, existing=self._options.existing, by=by)
        except ConflictError as error:
            raise VanishedError from error
        except InvalidError as error:
            if len(groups) == 1:
                tally.refused += [_refused(row, error) for row in groups[0]]
                return
            for rows in groups:  # what is too large together shows when it is written: find whose it is
                await self._write(session, [rows], tally, by=by)
            return
        tally.created += sum(len(groups[number]) for number in written.created)
        tally.updated += sum(len(groups[number]) for number in written.updated)
        tally.unchanged += sum(len(groups[number]) for number in written.unchanged)
        tally.refused += [_refused(row, error) for number, error in written.refused.items() for row in groups[number]]
        tally.fresh = [*tally.fresh, *([row.identity] for number in written.created for row in groups[number])]


class ProductFiles:
    """What a file of products may be asked for; see `import_target.Kind`."""

    def options(self, given: Mapping[str, Any]) -> ProductOptions:
        """Return the options."""
        return validated(ProductOptions, given)

    def recognized(self, columns: Sequence[str]) -> str | None:
        """Return `throughline` for an export of products."""
        return "throughline" if _is_export(columns) else None

    def mapping(self, detected: Detected, given: Mapped | None, options: Reading) -> dict[str, str | None]:
        """Return what each column is taken for."""
        del options
        if detected.format == "ndjson":
            if given:
                raise InvalidError.of("mapping", "is for CSV files; the objects of NDJSON name their fields")
            return {}
        proposal = _proposed(detected.columns)
        mapping = proposal if given is None else {**dict.fromkeys(detected.columns), **given}
        Columns(detected.columns, mapping)
        return mapping

    def check_startable(self, mapping: Mapped) -> None:
        """Check that rows can mean a product."""
        if not {"external_id", "key", "variant.sku"} & set(mapping.values()):
            raise InvalidError.of("mapping", "takes no column for external_id, key or variant.sku")

    async def target(self, session: TenantSession, detected: Detected, mapping: Mapped, options: Reading) -> Products:
        """Return what takes the products in."""
        del session
        reader = Columns(detected.columns, mapping) if detected.format == "csv" else None
        return Products(reader, cast("ProductOptions", options))


def _is_export(columns: Sequence[str]) -> bool:
    return {column.strip() for column in columns} >= _EXPORT


def _proposed(columns: Sequence[str]) -> dict[str, str | None]:
    """Return a target for every column, each at most once: by its name, else an attribute of that name."""
    exported = _is_export(columns)
    found: dict[str, str | None] = {}
    for column in columns:
        target = _target(column.strip(), exported=exported)
        found[column] = None if target in found.values() else target
    return found


def _target(name: str, *, exported: bool) -> str | None:
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug or slug in REJECTED or (exported and name in COMPUTED):
        return None
    if slug in _NAMES:
        return _NAMES[slug]
    for target in (name, slug, f"{VARIANT}{slug}"):
        if putter(target) is not None:
            return target
    return f"attributes.{slug if slug[0].isalpha() else f'_{slug}'}"[:75]


def _parted(rows: Sequence[Row]) -> tuple[list[list[Row]], list[Row]]:
    """Return rows by the product they mean, up to so many variants, and those to take after them."""
    groups: dict[tuple[str, str], list[Row]] = {}
    skus: set[str] = set()
    rest: list[Row] = []
    later: set[tuple[str, str]] = set()
    for row in rows:
        mine = {one.sku or "" for one in row.given.change.variants or ()}
        full = len(groups) >= MAX_AT_ONCE or (skus and len(skus | mine) > MAX_AT_ONCE)
        if row.identity in later or mine & skus or full:
            rest.append(row)
            later.add(row.identity)
            continue
        skus |= mine
        groups.setdefault(row.identity, []).append(row)
    return list(groups.values()), rest


def _joined(rows: Sequence[Row]) -> Given:
    """Return what rows of one product say together; the last one that says something of it counts."""
    if len(rows) == 1:
        return rows[0].given
    change = rows[0].given.change
    categories = rows[0].given.categories
    for row in rows[1:]:
        more = row.given.change
        change = replace(
            change,
            fields={**change.fields, **more.fields},
            attributes={**(change.attributes or {}), **(more.attributes or {})},
            variants=[*(change.variants or ()), *(more.variants or ())],
        )
        categories = row.given.categories if row.given.categories is not None else categories
    return Given(change, categories)


def _refused(row: Row, error: PlatformError) -> Refused:
    if not error.errors:
        return Refused(row.line, "", error.detail)
    return Refused(row.line, error.errors[0].field, error.errors[0].reason)


async def _load(session: TenantSession, contents: Contents) -> Kind:
    del session, contents
    return ProductFiles()


KINDS: Final[Kinds] = {PRODUCT: Served(_load, COMMERCE)}
"""The kinds of files that commerce takes in."""
