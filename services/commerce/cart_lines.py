"""What lies in carts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.types import Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError
from core.ids import new_ids
from models import CartLine, Variant
from services.commerce import cart_pricing
from services.commerce.cart_changing import Change, opened, told
from services.commerce.cart_pricing import CartView

MAX_LINES: Final = 200
MAX_QUANTITY: Final = 1_000_000
"""Pieces in a line."""

_VARIANTS: Final = text("""
    SELECT v.id, v.sku, v.active AND p.status = 'active' AS for_sale,
           EXISTS (SELECT FROM price r WHERE r.tenant_id = :tenant AND r.variant_id = v.id AND r.currency = :currency)
             AS has_price
    FROM variant v JOIN product p ON p.tenant_id = :tenant AND p.id = v.product_id
    WHERE v.tenant_id = :tenant AND (v.id = ANY(:ids) OR v.sku = ANY(:skus))
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("skus", type_=ARRAY(Text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Pieces to put into a cart, of a variant that is named by its id or its SKU."""

    variant_id: UUID | None = None
    sku: str | None = None
    quantity: int = 1
    at: str = ""
    """Leads to it in the request, such as `lines.3.`."""

    @property
    def named(self) -> str:
        """The field that names the variant."""
        return f"{self.at}{'sku' if self.variant_id is None else 'variant_id'}"


async def put(
    session: TenantSession, cart_id: UUID, lines: Sequence[Wanted], *, by: Actor, version: int | None = None
) -> CartView:
    """Put pieces into a cart; those of a variant that is in it already are added to its line.

    Raises:
        NotFoundError: no such cart in this tenant.
        InvalidError: a variant is not known or not for sale, or it would be too much.
        ConflictError: the cart is not open, or not in `version` any more.
    """
    made = Change(await opened(session, cart_id, version=version))
    await put_into(session, made, lines)
    return await told(session, made, by=by)


async def set_quantity(
    session: TenantSession, cart_id: UUID, line_id: UUID, quantity: int, *, by: Actor, version: int | None = None
) -> CartView:
    """Set how many pieces a line has.

    Raises:
        NotFoundError: no such cart in this tenant, or no such line in it.
        InvalidError: the quantity is not acceptable.
        ConflictError: the cart is not open, or not in `version` any more.
    """
    made = Change(await opened(session, cart_id, version=version))
    line, sku = await _line(session, cart_id, line_id)
    if not 0 < quantity <= MAX_QUANTITY:
        raise InvalidError.of("quantity", f"must be from 1 to {MAX_QUANTITY}")
    if line.quantity == quantity:
        return await cart_pricing.view(session, made.cart)
    made.log[f"lines.{sku}"] = (line.quantity, quantity)
    line.quantity = quantity
    return await told(session, made, by=by)


async def remove(
    session: TenantSession, cart_id: UUID, line_id: UUID, *, by: Actor, version: int | None = None
) -> CartView:
    """Take a line out of a cart.

    Raises:
        NotFoundError: no such cart in this tenant, or no such line in it.
        ConflictError: the cart is not open, or not in `version` any more.
    """
    made = Change(await opened(session, cart_id, version=version))
    line, sku = await _line(session, cart_id, line_id)
    made.log[f"lines.{sku}"] = (line.quantity, None)
    await session.delete(line)
    return await told(session, made, by=by)


async def put_into(session: TenantSession, made: Change, lines: Sequence[Wanted]) -> None:
    """Put pieces into a cart that is held; those of a variant that is in it already are added to its line.

    Raises:
        InvalidError: a variant is not known or not for sale, or it would be too much.
    """
    if not lines:
        return
    rows = await session.execute(
        _VARIANTS,
        {
            "tenant": session.tenant_id,
            "currency": made.cart.currency,
            "ids": [line.variant_id for line in lines if line.variant_id is not None],
            "skus": [line.sku for line in lines if line.sku is not None],
        },
    )
    known: dict[UUID | str | None, RowMapping] = {}
    for row in rows.mappings():
        known[row["id"]] = known[row["sku"]] = row
    pieces: dict[UUID, int] = {}
    problems: list[FieldProblem] = []
    for line in lines:
        row = known.get(line.sku if line.variant_id is None else line.variant_id)
        reason = _refusal(row, made.cart.currency)
        if row is None or reason is not None:
            problems.append(FieldProblem(line.named, reason or ""))
        else:
            pieces[row["id"]] = pieces.get(row["id"], 0) + line.quantity
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    await add_to(session, made, pieces)


async def add_to(session: TenantSession, made: Change, pieces: Mapping[UUID, int]) -> None:
    """Add pieces, by variant, to a cart that is held.

    Raises:
        InvalidError: it would be too much.
    """
    if not pieces:
        return
    rows = await session.execute(
        select(CartLine.variant_id, CartLine.quantity).where(
            CartLine.tenant_id == session.tenant_id, CartLine.cart_id == made.cart.id
        )
    )
    before = {row.variant_id: row.quantity for row in rows}
    if len(before.keys() | pieces.keys()) > MAX_LINES:
        raise InvalidError.of("lines", f"must be at most {MAX_LINES} in a cart")
    after = {variant: before.get(variant, 0) + quantity for variant, quantity in pieces.items()}
    if max(after.values()) > MAX_QUANTITY:
        raise InvalidError.of("quantity", f"must be at most {MAX_QUANTITY} of a variant in a cart")
    statement = insert(CartLine).values(
        [
            {
                "tenant_id": session.tenant_id,
                "id": line_id,
                "cart_id": made.cart.id,
                "variant_id": variant,
                "quantity": quantity,
            }
            for line_id, (variant, quantity) in zip(new_ids(len(after)), after.items(), strict=True)
        ]
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "cart_id", "variant_id"], set_={"quantity": statement.excluded.quantity}
        )
    )
    skus = await session.execute(
        select(Variant.id, Variant.sku).where(Variant.tenant_id == session.tenant_id, Variant.id.in_(sorted(after)))
    )
    for row in skus:
        made.log[f"lines.{row.sku}"] = (before.get(row.id), after[row.id])


def _refusal(row: RowMapping | None, code_currency: str) -> str | None:
    if row is None:
        return "is not known"
    if not row["for_sale"]:
        return "is not for sale"
    return None if row["has_price"] else f"has no price in {code_currency}"


async def _line(session: TenantSession, cart_id: UUID, line_id: UUID) -> tuple[CartLine, str]:
    """Return a line and the SKU of its variant."""
    found = (
        await session.execute(
            select(CartLine, Variant.sku)
            .join(Variant, (Variant.tenant_id == session.tenant_id) & (Variant.id == CartLine.variant_id))
            .where(CartLine.tenant_id == session.tenant_id, CartLine.id == line_id, CartLine.cart_id == cart_id)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if found is None:
        raise NotFoundError("No such line.")
    return found[0], found[1]
