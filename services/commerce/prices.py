"""What variants cost, in each currency: read, set many at once, and told to those who watch them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text, Uuid

from contracts.events import PRICE_CHANGED, PRICE_DROPPED
from core.actor import Actor
from core.currency import from_minor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError
from models import Price, Tenant, Variant
from services.commerce import watching
from services.commerce.product_fields import NewPrice, check_prices, problems_of_price
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_AT_ONCE: Final = 1_000

_SAVE: Final = text("""
    INSERT INTO price (tenant_id, variant_id, currency, amount_minor, compare_at_minor)
    SELECT :tenant AS tenant_id, n.* FROM unnest(:variants, :currencies, :amounts, :compare) AS n
    ON CONFLICT (tenant_id, variant_id, currency) DO UPDATE
    SET amount_minor = excluded.amount_minor, compare_at_minor = excluded.compare_at_minor, updated_at = now()
""").bindparams(
    bindparam("variants", type_=ARRAY(Uuid)),
    bindparam("currencies", type_=ARRAY(Text)),
    bindparam("amounts", type_=ARRAY(BigInteger)),
    bindparam("compare", type_=ARRAY(BigInteger)),
)
_DELETE: Final = text("""
    DELETE FROM price p USING unnest(:variants, :currencies) AS n(variant_id, currency)
    WHERE p.tenant_id = :tenant AND p.variant_id = n.variant_id AND p.currency = n.currency
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)), bindparam("currencies", type_=ARRAY(Text)))
_SOLD: Final = text("""
    SELECT v.id FROM variant v JOIN product p ON p.tenant_id = :tenant AND p.id = v.product_id
    WHERE v.tenant_id = :tenant AND v.id = ANY(:variants) AND v.active AND p.status = 'active'
""").bindparams(bindparam("variants", type_=ARRAY(Uuid)))

_Key = tuple[UUID, str]
_Pair = tuple[int, int | None]
"""Amount, and what it was before where that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOf:
    """What a variant is to cost."""

    price: NewPrice
    variant_id: UUID | None = None
    sku: str | None = None
    """Either of the two names the variant."""


async def of(session: TenantSession, variant_ids: Collection[UUID], currency: str) -> dict[UUID, int]:
    """Return what variants cost in a currency, in its smallest unit; those that cannot be had in it are left out."""
    rows = await session.execute(
        select(Price.variant_id, Price.amount_minor).where(
            Price.tenant_id == session.tenant_id, Price.variant_id.in_(variant_ids), Price.currency == currency
        )
    )
    return {row.variant_id: row.amount_minor for row in rows}


async def all_of(session: TenantSession, variant_ids: Collection[UUID]) -> dict[UUID, list[Price]]:
    """Return all prices of variants, in the order of their currencies."""
    found: dict[UUID, list[Price]] = {variant_id: [] for variant_id in variant_ids}
    rows = await session.scalars(
        select(Price)
        .where(Price.tenant_id == session.tenant_id, Price.variant_id.in_(variant_ids))
        .order_by(Price.currency)
        .execution_options(populate_existing=True)
    )
    for row in rows:
        found[row.variant_id].append(row)
    return found


async def replace(session: TenantSession, variant_id: UUID, prices: Sequence[NewPrice], *, by: Actor) -> None:
    """Set all prices of a variant: it cannot be had in other currencies any more.

    Raises:
        NotFoundError: no such variant in this tenant.
        InvalidError: a price is not acceptable.
    """
    check_prices(prices, "prices")
    await _hold_one(session, variant_id)
    await write(session, {variant_id: prices}, whole=True, by=by)


async def put(session: TenantSession, variant_id: UUID, price: NewPrice, *, by: Actor) -> None:
    """Set what a variant costs in a currency.

    Raises:
        NotFoundError: no such variant in this tenant.
        InvalidError: the price is not acceptable.
    """
    problems = problems_of_price(price, "price")
    if problems:
        errors = [FieldProblem(one.field.removeprefix("price."), one.reason) for one in problems]
        raise InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors)
    await _hold_one(session, variant_id)
    await write(session, {variant_id: [price]}, whole=False, by=by)


async def remove(session: TenantSession, variant_id: UUID, currency: str, *, by: Actor) -> None:
    """Have a variant not be had in a currency any more.

    Raises:
        NotFoundError: no such variant in this tenant, or it has no price in this currency.
    """
    await _hold_one(session, variant_id)
    before = await _before(session, [variant_id])
    if (variant_id, currency) not in before:
        raise NotFoundError("The variant has no price in this currency.")
    left = [_new(code, pair) for (_, code), pair in before.items() if code != currency]
    await write(session, {variant_id: left}, whole=True, by=by)


async def put_all(session: TenantSession, prices: Sequence[PriceOf], *, by: Actor) -> list[UUID]:
    """Set many prices, all or none; other currencies stay. Return the variant of each.

    Raises:
        InvalidError: a variant is not known or named by neither or both of id and SKU, a price is not acceptable, or
            one is set twice; every field at fault is named.
    """
    if len(prices) > MAX_AT_ONCE:
        raise InvalidError.of("prices", f"may be at most {MAX_AT_ONCE}")
    skus = {one.sku for one in prices if one.sku is not None}
    by_sku = await _by_sku(session, skus)
    problems: list[FieldProblem] = []
    found: list[UUID | None] = []
    for number, one in enumerate(prices):
        problems += problems_of_price(one.price, f"prices.{number}")
        if (one.variant_id is None) == (one.sku is None):
            problems.append(FieldProblem(f"prices.{number}", "must name its variant by variant_id or by sku"))
        found.append(one.variant_id if one.sku is None else by_sku.get(one.sku))
    known = await hold(session, [variant for variant in found if variant is not None])
    wanted: dict[UUID, list[NewPrice]] = {}
    seen: set[_Key] = set()
    for number, (one, variant) in enumerate(zip(prices, found, strict=True)):
        if variant is None or variant not in known:
            problems.append(FieldProblem(f"prices.{number}.{'variant_id' if one.sku is None else 'sku'}", "is unknown"))
            continue
        if (variant, one.price.currency) in seen:
            problems.append(FieldProblem(f"prices.{number}", "sets what one before it has set"))
        seen.add((variant, one.price.currency))
        wanted.setdefault(variant, []).append(one.price)
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)
    await write(session, wanted, whole=False, by=by)
    return [variant for variant in found if variant is not None]


async def write(
    session: TenantSession,
    wanted: Mapping[UUID, Sequence[NewPrice]],
    *,
    whole: bool,
    by: Actor,
    new: Collection[UUID] = (),
) -> set[UUID]:
    """Write prices, which are checked, of variants that the caller holds; return which variants it changed.

    Args:
        session: of the tenant.
        wanted: by variant.
        whole: whether these are all: others go.
        by: who does it.
        new: variants made just now, of which nothing has to be told.
    """
    if not wanted:
        return set()
    before = await _before(session, sorted(wanted))
    after: dict[_Key, _Pair] = {} if whole else dict(before)
    for variant, prices in wanted.items():
        for price in prices:
            after[variant, price.currency] = (price.amount_minor, price.compare_at_minor)
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    gone = [key for key in changed if key not in after]
    set_now = [key for key in changed if key in after]
    if gone:
        values = {"variants": [variant for variant, _ in gone], "currencies": [code for _, code in gone]}
        await session.execute(_DELETE, {"tenant": session.tenant_id} | values)
    if set_now:
        await session.execute(
            _SAVE,
            {
                "tenant": session.tenant_id,
                "variants": [variant for variant, _ in set_now],
                "currencies": [code for _, code in set_now],
                "amounts": [after[key][0] for key in set_now],
                "compare": [after[key][1] for key in set_now],
            },
        )
    old = [key for key in changed if key[0] not in new]
    await _report(session, old, before, after, by=by)
    return {variant for variant, _ in changed}


async def hold(session: TenantSession, variant_ids: Collection[UUID]) -> dict[UUID, Variant]:
    """Return those that are there, held against changes until the transaction ends."""
    rows = await session.scalars(
        select(Variant)
        .where(Variant.tenant_id == session.tenant_id, Variant.id.in_(set(variant_ids)))
        .order_by(Variant.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}


async def _hold_one(session: TenantSession, variant_id: UUID) -> None:
    if not await hold(session, [variant_id]):
        raise NotFoundError("No such variant.")


async def _by_sku(session: TenantSession, skus: Collection[str]) -> dict[str, UUID]:
    if not skus:
        return {}
    rows = await session.execute(
        select(Variant.sku, Variant.id).where(Variant.tenant_id == session.tenant_id, Variant.sku.in_(skus))
    )
    return {row.sku: row.id for row in rows}


async def _before(session: TenantSession, variant_ids: Sequence[UUID]) -> dict[_Key, _Pair]:
    rows = await session.execute(
        select(Price.variant_id, Price.currency, Price.amount_minor, Price.compare_at_minor)
        .where(Price.tenant_id == session.tenant_id, Price.variant_id.in_(variant_ids))
        .order_by(Price.variant_id, Price.currency)
    )
    return {(row.variant_id, row.currency): (row.amount_minor, row.compare_at_minor) for row in rows}


def _new(currency: str, pair: _Pair) -> NewPrice:
    return NewPrice(currency=currency, amount_minor=pair[0], compare_at_minor=pair[1])


def _shown(minor: int | None, currency: str) -> str | None:
    return None if minor is None else str(from_minor(minor, currency))


async def _report(
    session: TenantSession,
    changed: Sequence[_Key],
    before: Mapping[_Key, _Pair],
    after: Mapping[_Key, _Pair],
    *,
    by: Actor,
) -> None:
    logged: dict[UUID, dict[str, tuple[Any, Any]]] = {}
    told: dict[UUID, list[dict[str, Any]]] = {}
    dropped: dict[UUID, list[dict[str, Any]]] = {}
    for key in changed:
        variant, code = key
        (was, was_compare), (now, now_compare) = before.get(key, (None, None)), after.get(key, (None, None))
        fields = logged.setdefault(variant, {})
        if was != now:
            fields[f"price.{code}"] = (_shown(was, code), _shown(now, code))
            told.setdefault(variant, []).append(
                {"currency": code, "price": _shown(now, code), "was": _shown(was, code)}
            )
            if was is not None and now is not None and now < was:
                dropped.setdefault(variant, []).append(told[variant][-1])
        if was_compare != now_compare:
            fields[f"compare_at.{code}"] = (_shown(was_compare, code), _shown(now_compare, code))
    await activity.record_all(
        session,
        [activity.NewActivity("variant", variant, PRICE_CHANGED, fields) for variant, fields in logged.items()],
        by=by,
    )
    await publish(
        session,
        [
            NewEvent(PRICE_CHANGED, variant, subject_type="variant", properties={"prices": prices})
            for variant, prices in told.items()
        ],
    )
    await _tell(session, dropped)


async def _tell(session: TenantSession, dropped: Mapping[UUID, Sequence[Mapping[str, Any]]]) -> None:
    """Say what costs less, of what is sold: once a variant, by the base currency where it is among those that fell."""
    if not dropped:
        return
    sold = set(await session.scalars(_SOLD, {"tenant": session.tenant_id, "variants": sorted(dropped)}))
    base = await session.scalar(select(Tenant.base_currency).where(Tenant.id == session.tenant_id))
    about: dict[UUID, dict[str, Any]] = {}
    for variant in sold:
        prices = dropped[variant]
        first = next((one for one in prices if one["currency"] == base), prices[0])
        about[variant] = {**first, "prices": list(prices)}
    await watching.tell(session, PRICE_DROPPED, about)
