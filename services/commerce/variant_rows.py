"""Rows of variants: what each is to be, and many written by one statement."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from core.database import TenantSession
from core.errors import ConflictError
from core.ids import new_id
from models import Variant
from services.commerce.product_fields import MAX_VARIANTS, VariantChange, merged

DEFAULTS: Final[Mapping[str, Any]] = {
    "name": None,
    "options": {},
    "active": True,
    "tracked": True,
    "backorder": False,
    "tax_class": "standard",
    "attributes": {},
}
OWN: Final = ("sku", *DEFAULTS, "position")
Key = tuple[UUID, str]
"""Product and SKU."""


def after(old: Variant | None, change: VariantChange, *, whole: bool, path: str) -> dict[str, Any]:
    """Return what a variant is to be, without its position."""
    base = DEFAULTS if whole or old is None else {name: getattr(old, name) for name in DEFAULTS}
    values = {**base, **change.fields, "sku": change.sku}
    values["options"] = values["options"] or {}
    kept: Mapping[str, Any] = base["attributes"]
    values["attributes"] = merged(kept, change.attributes or {}, f"{path}attributes")
    return values


def same(one: object, other: object) -> bool:
    """Return whether two values of a column are the same; Python holds true and 1 for equal."""
    return one == other and type(one) is type(other)


def planned(
    before: Mapping[str, Variant], wanted: Sequence[VariantChange], used: Collection[UUID], *, whole: bool
) -> dict[str, dict[str, Any]]:
    """Return what the variants of a product are to be by their SKUs; with `whole` those in use that are not named too.

    Raises:
        ConflictError: there would be too many.
    """
    place = max((row.position for row in before.values()), default=-1) + 1
    rows: dict[str, dict[str, Any]] = {}
    for number, change in enumerate(wanted):
        old = before.get(change.sku or "")
        position = number if whole else old.position if old is not None else place
        place += not whole and old is None
        values = after(old, change, whole=whole, path=f"variants.{number}.")
        rows[change.sku or ""] = {**values, "position": position}
    for row in before.values():
        if whole and row.sku not in rows and row.id in used:
            rows[row.sku] = {name: getattr(row, name) for name in OWN} | {"active": False, "position": len(rows)}
    if len(rows if whole else before.keys() | rows.keys()) > MAX_VARIANTS:
        raise ConflictError(f"A product can have at most {MAX_VARIANTS} variants.")
    return rows


async def save(session: TenantSession, rows: Mapping[Key, Mapping[str, Any]]) -> dict[Key, UUID]:
    """Write variants by their SKUs, in one statement; return the ids of those that are their product's."""
    if not rows:
        return {}
    statement = insert(Variant).values(
        [
            {"tenant_id": session.tenant_id, "id": new_id(), "product_id": product_id, **values}
            for (product_id, _), values in sorted(rows.items(), key=lambda each: each[0][1])
        ]
    )
    given = statement.excluded
    written = await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "sku"],
            set_={name: given[name] for name in OWN if name != "sku"} | {"updated_at": func.now()},
            where=Variant.product_id == given.product_id,
        ).returning(Variant.product_id, Variant.sku, Variant.id)
    )
    return {(row.product_id, row.sku): row.id for row in written}
