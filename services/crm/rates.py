"""Rates of exchange by day, and what amounts are worth by them in the tenant's base currency.

A rate says what one unit of a currency is worth in the base currency from its day on, until the next one. An open deal
is valued by the newest, a closed one by the newest of the UTC day it closed on, or the first ever where there was none
yet. Whoever writes a deal's amount or status calls `hold` before anything else; whoever changes rates waits for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Date, Numeric, Text

from contracts.events import EXCHANGE_RATE_DELETED, EXCHANGE_RATE_SET
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from models import Deal, ExchangeRate, Tenant
from services.events.publish import NewEvent, publish
from services.shared import activity

MAX_RATE: Final = Decimal(10) ** 12
"""Rates are below this; the store has twelve places before the point and twelve behind it."""
PLACES: Final = 12
MAX_WORTH: Final = 10**18 - 1
"""The largest amount in smallest units, as many digits as amounts have at the edge."""
_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_UP)
_TOO_LARGE: Final = "22003"
"""SQLSTATE of a number that its column cannot hold."""

_KEY: Final = "hashtextextended('exchange_rate:' || CAST(CAST(:tenant AS uuid) AS text), 0)"
_HOLD = text(f"SELECT pg_advisory_xact_lock_shared({_KEY})")
_LOCK = text(f"SELECT pg_advisory_xact_lock({_KEY})")

# One row of several is chosen: the newest that is valid on the day, else the oldest.
_RATE: Final = """
    SELECT r.rate FROM exchange_rate r
    WHERE r.tenant_id = :tenant AND r.base = :base AND r.currency = {currency}
    ORDER BY r.valid_from <= {day} DESC, CASE WHEN r.valid_from <= {day} THEN r.valid_from END DESC, r.valid_from
    LIMIT 1
"""
_RATES = text(f"""
    SELECT a.currency, a.day, ({_RATE.format(currency="a.currency", day="a.day")}) AS rate
    FROM unnest(:currencies, :days) AS a(currency, day)
""").bindparams(bindparam("currencies", type_=ARRAY(Text)), bindparam("days", type_=ARRAY(Date)))  # noqa: S608 - constants of this module

_REVALUE = text(f"""
    WITH seen AS (
      SELECT d.currency, coalesce((d.closed_at AT TIME ZONE 'UTC')::date, :today) AS day
      FROM deal d WHERE d.tenant_id = :tenant AND d.currency = ANY(:currencies)
    ), worth AS MATERIALIZED (
      SELECT p.currency, p.day,
             f.factor * CASE WHEN p.currency = :base THEN 1
                             ELSE ({_RATE.format(currency="p.currency", day="p.day")}) END AS each
      FROM (SELECT DISTINCT currency, day FROM seen) p
      JOIN unnest(:currencies, :factors) AS f(currency, factor) ON f.currency = p.currency
    ), held AS MATERIALIZED (
      SELECT d.id, round(d.amount_minor * w.each) AS base_minor
      FROM deal d
      JOIN worth w
        ON w.currency = d.currency AND w.day = coalesce((d.closed_at AT TIME ZONE 'UTC')::date, :today)
      WHERE d.tenant_id = :tenant AND d.currency = ANY(:currencies)
        AND d.base_minor <> round(d.amount_minor * w.each)
      ORDER BY d.id FOR NO KEY UPDATE OF d
    ), written AS (
      UPDATE deal d SET base_minor = h.base_minor
      FROM held h WHERE d.tenant_id = :tenant AND d.id = h.id
      RETURNING d.base_minor
    )
    SELECT max(base_minor) FROM written
""").bindparams(  # noqa: S608 - constants of this module
    bindparam("currencies", type_=ARRAY(Text)),
    bindparam("factors", type_=ARRAY(Numeric)),
    bindparam("today", type_=Date),
    bindparam("base", type_=Text),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRate:
    """What one unit of `currency` is worth in the base currency from `valid_from` on."""

    currency: str
    valid_from: date
    rate: Decimal


class Amount(NamedTuple):
    """An amount to value: by the newest rate, or by that of a day."""

    minor: int
    currency: str
    day: date | None = None


def today() -> date:
    """Return the UTC day."""
    return datetime.now(UTC).date()


def day_of(at: datetime | None) -> date | None:
    """Return the UTC day of an instant."""
    return None if at is None else at.astimezone(UTC).date()


async def hold(session: TenantSession) -> str:
    """Keep rates and base currency as they are until the transaction ends; return the base currency."""
    await session.execute(_HOLD, {"tenant": session.tenant_id})
    return await base_of(session)


async def base_of(session: TenantSession) -> str:
    """Return the tenant's base currency."""
    return (await session.scalars(select(Tenant.base_currency).where(Tenant.id == session.tenant_id))).one()


async def values(session: TenantSession, base: str, amounts: Sequence[Amount]) -> list[int | InvalidError]:
    """Return what amounts are worth, in the base currency's smallest unit, or why that cannot be said.

    Halves are rounded away from zero. One statement, whatever their number; none where all are in the base currency.
    """
    day = today()
    wanted = sorted({(amount.currency, amount.day or day) for amount in amounts if amount.currency != base})
    found: Mapping[tuple[str, date], Decimal | None] = {}
    if wanted:
        rows = await session.execute(
            _RATES,
            {
                "tenant": session.tenant_id,
                "base": base,
                "currencies": [code for code, _ in wanted],
                "days": [on for _, on in wanted],
            },
        )
        found = {(row.currency, row.day): row.rate for row in rows}
    return [
        amount.minor if amount.currency == base else _worth(amount, base, found[amount.currency, amount.day or day])
        for amount in amounts
    ]


def _worth(amount: Amount, base: str, rate: Decimal | None) -> int | InvalidError:
    if rate is None:
        return without_rate(amount.currency, base)
    try:
        return converted(amount.minor, amount.currency, base, rate)
    except InvalidError as error:
        return error


async def value(session: TenantSession, minor: int, code: str, day: date | None = None) -> int:
    """Return what one amount is worth in the tenant's base currency; see `values`.

    Raises:
        InvalidError: the currency has no rate, or the worth is larger than the store holds.
    """
    base = await base_of(session)
    worth = (await values(session, base, [Amount(minor, code, day)]))[0]
    if isinstance(worth, InvalidError):
        raise worth
    return worth


def converted(minor: int, code: str, base: str, rate: Decimal) -> int:
    """Return an amount by a rate, halves rounded away from zero.

    Raises:
        InvalidError: it is larger than the store holds.
    """
    worth = int(_EXACT.to_integral_value(_EXACT.multiply(_EXACT.multiply(Decimal(minor), rate), _factor(code, base))))
    if worth > MAX_WORTH:
        raise InvalidError.of("amount.amount", f"is too large in {base}")
    return worth


def without_rate(code: str, base: str) -> InvalidError:
    """Return the refusal of an amount whose currency has no rate."""
    return InvalidError.of("amount.currency", f"there is no exchange rate from {code} to {base}")


def _factor(code: str, base: str) -> Decimal:
    """Return what brings smallest units of one currency to those of another that is worth the same."""
    return Decimal(1).scaleb(currency.EXPONENTS[base] - currency.EXPONENTS[code])


async def put(session: TenantSession, rates: Sequence[NewRate], *, base: str | None, by: Actor) -> list[ExchangeRate]:
    """Set rates, to the tenant's base currency unless another is named; deals that they concern are valued anew.

    Raises:
        InvalidError: a rate is of no use, or would make a deal worth more than the store holds.
    """
    _check(rates)
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    current = await base_of(session)
    base = base or current
    if any(rate.currency == base for rate in rates):
        raise InvalidError.of("rates", f"{base} has no rate to itself")
    given = sorted(rates, key=lambda rate: (rate.currency, rate.valid_from))
    keys = [(base, rate.currency, rate.valid_from) for rate in given]
    before = {(row.currency, row.valid_from): row.rate for row in await _rows(session, keys)}
    statement = insert(ExchangeRate).values(
        [
            {
                "tenant_id": session.tenant_id,
                "base": base,
                "currency": rate.currency,
                "valid_from": rate.valid_from,
                "rate": rate.rate,
            }
            for rate in given
        ]
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "base", "currency", "valid_from"], set_={"rate": statement.excluded.rate}
        )
    )
    changes = {
        f"{rate.currency}.{rate.valid_from}": (_shown(before.get((rate.currency, rate.valid_from))), _shown(rate.rate))
        for rate in given
    }
    await _report(session, EXCHANGE_RATE_SET, base, changes, by=by)
    if base == current:
        await _revalue(session, base, sorted({rate.currency for rate in given}))
    return await _rows(session, keys)


async def remove(session: TenantSession, base: str | None, code: str, valid_from: date, *, by: Actor) -> None:
    """Delete a rate; deals that it concerned are valued anew.

    Raises:
        NotFoundError: no such rate in this tenant.
        ConflictError: it is the only one of its currency, and deals are in that.
    """
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    current = await base_of(session)
    base = base or current
    gone = await session.scalar(
        delete(ExchangeRate)
        .where(
            ExchangeRate.tenant_id == session.tenant_id,
            ExchangeRate.base == base,
            ExchangeRate.currency == code,
            ExchangeRate.valid_from == valid_from,
        )
        .returning(ExchangeRate.rate)
    )
    if gone is None:
        raise NotFoundError("No such rate.")
    if base == current:
        if await _used(session, code) and await _missing(session, base, [code]):
            raise ConflictError(f"Deals are in {code}, and this is its only rate.")
        await _revalue(session, base, [code])
    await _report(session, EXCHANGE_RATE_DELETED, base, {f"{code}.{valid_from}": (_shown(gone), None)}, by=by)


async def change_base(session: TenantSession, base: str) -> None:
    """Value every deal in another base currency, which the caller makes the tenant's in this transaction.

    Call it before the tenant's row is locked.

    Raises:
        InvalidError: `base_currency`: deals are in currencies without a rate to it.
    """
    await session.execute(_LOCK, {"tenant": session.tenant_id})
    if base not in currency.EXPONENTS or base == await base_of(session):
        return
    codes = list(
        await session.scalars(
            select(Deal.currency).where(Deal.tenant_id == session.tenant_id).distinct().order_by(Deal.currency)
        )
    )
    missing = await _missing(session, base, [code for code in codes if code != base])
    if missing:
        raise InvalidError.of("base_currency", f"deals are in {', '.join(missing)}, without a rate to {base}")
    await _revalue(session, base, codes)


async def page(
    session: TenantSession, *, base: str | None, code: str | None, limit: int, after: tuple[str, date] | None
) -> list[ExchangeRate]:
    """Return up to `limit` rates to a base currency, the tenant's unless named, by currency, the newest first."""
    rate = ExchangeRate
    statement = select(rate).where(rate.tenant_id == session.tenant_id, rate.base == (base or await base_of(session)))
    if code is not None:
        statement = statement.where(rate.currency == code)
    if after is not None:
        statement = statement.where(
            (rate.currency > after[0]) | ((rate.currency == after[0]) & (rate.valid_from < after[1]))
        )
    statement = statement.order_by(rate.currency, rate.valid_from.desc()).limit(limit)
    return list(await session.scalars(statement.execution_options(populate_existing=True)))


def _check(rates: Sequence[NewRate]) -> None:
    problems: list[FieldProblem] = []
    seen: set[tuple[str, date]] = set()
    last = today()
    for number, rate in enumerate(rates):
        field = f"rates.{number}"
        if rate.currency not in currency.EXPONENTS:
            problems.append(FieldProblem(f"{field}.currency", "is not a currency code of ISO 4217"))
        if rate.valid_from > last:
            problems.append(FieldProblem(f"{field}.valid_from", "must not be in the future"))
        if not 0 < rate.rate < MAX_RATE:
            problems.append(FieldProblem(f"{field}.rate", "must be above 0 and below 10^12"))
        elif rate.rate != round(rate.rate, PLACES):
            problems.append(FieldProblem(f"{field}.rate", f"must have at most {PLACES} decimal places"))
        if (rate.currency, rate.valid_from) in seen:
            problems.append(FieldProblem(field, "is given twice"))
        seen.add((rate.currency, rate.valid_from))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def _rows(session: TenantSession, keys: Sequence[tuple[str, str, date]]) -> list[ExchangeRate]:
    rate = ExchangeRate
    statement = (
        select(rate)
        .where(rate.tenant_id == session.tenant_id, tuple_(rate.base, rate.currency, rate.valid_from).in_(keys))
        .order_by(rate.currency, rate.valid_from)
    )
    return list(await session.scalars(statement.execution_options(populate_existing=True)))


async def _used(session: TenantSession, code: str) -> bool:
    used = select(exists().where(Deal.tenant_id == session.tenant_id, Deal.currency == code))
    return bool(await session.scalar(used))


async def _missing(session: TenantSession, base: str, codes: Sequence[str]) -> list[str]:
    """Return those of the currencies that have no rate to `base`."""
    if not codes:
        return []
    known = await session.scalars(
        select(ExchangeRate.currency)
        .where(
            ExchangeRate.tenant_id == session.tenant_id,
            ExchangeRate.base == base,
            ExchangeRate.currency.in_(codes),
        )
        .group_by(ExchangeRate.currency)
        .having(func.count() > 0)
    )
    return sorted(set(codes) - set(known))


async def _revalue(session: TenantSession, base: str, codes: Sequence[str]) -> None:
    """Bring the deals in these currencies in line with the rates; who holds rates has let go of them."""
    if not codes:
        return
    try:
        largest: int | None = await session.scalar(
            _REVALUE,
            {
                "tenant": session.tenant_id,
                "base": base,
                "today": today(),
                "currencies": list(codes),
                "factors": [_factor(code, base) for code in codes],
            },
        )
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _TOO_LARGE:
            raise
        raise _unbearable(base) from error
    if largest is not None and largest > MAX_WORTH:
        raise _unbearable(base)


def _unbearable(base: str) -> InvalidError:
    return InvalidError.of("rates", f"would make a deal worth more {base} than can be kept")


def _shown(rate: Decimal | None) -> str | None:
    return None if rate is None else f"{rate.normalize():f}"


async def _report(session: TenantSession, verb: str, base: str, changes: activity.Changes, *, by: Actor) -> None:
    tenant = session.tenant_id
    await activity.record(session, by=by, subject_type="tenant", subject_id=tenant, type=verb, changes=changes)
    properties = {"base": base, "rates": sorted(changes)}
    await publish(session, [NewEvent(verb, tenant, subject_type="tenant", properties=properties)])
