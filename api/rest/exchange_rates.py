"""Rates of exchange to the tenant's base currency, by day."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Self

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import CurrencyCode, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from models import ExchangeRate
from services.crm import rates

router = Router(prefix="/exchange-rates", tags=["pipelines"])

READ = [requires("pipelines:read")]
WRITE = [requires("pipelines:write")]


class ExchangeRateIn(Strict):
    """What one unit of a currency is worth in the base currency."""

    currency: CurrencyCode
    valid_from: date | None = None
    """From this day on, until the next rate; today, in UTC, unless given."""
    rate: Annotated[Decimal, Field(allow_inf_nan=False, max_digits=24, examples=["0.92"])]


class RatesIn(Strict):
    """Rates to set; those that are there already get another value."""

    base: CurrencyCode | None = None
    """The tenant's base currency unless given: another one's may be set before the tenant changes to it."""
    rates: Annotated[list[ExchangeRateIn], Field(min_length=1, max_length=1000)]


class ExchangeRateOut(Strict):
    """A rate."""

    base: str
    currency: str
    valid_from: date
    rate: Decimal
    created_at: datetime

    @classmethod
    def of(cls, row: ExchangeRate) -> Self:
        """Return the answer for a rate."""
        return cls(
            base=row.base,
            currency=row.currency,
            valid_from=row.valid_from,
            rate=Decimal(f"{row.rate.normalize():f}"),
            created_at=row.created_at,
        )


class ExchangeRatesOut(Strict):
    """Rates that were set."""

    rates: list[ExchangeRateOut]


@router.put("", dependencies=WRITE)
async def put(body: RatesIn, session: SessionDep, actor: ActorDep) -> ExchangeRatesOut:
    """Set rates; open deals follow the newest at once, closed ones that of the day they closed on."""
    given = [
        rates.NewRate(currency=one.currency, valid_from=one.valid_from or rates.today(), rate=one.rate)
        for one in body.rates
    ]
    return ExchangeRatesOut(
        rates=[ExchangeRateOut.of(row) for row in await rates.put(session, given, base=body.base, by=actor)]
    )


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    base: CurrencyCode | None = None,
    currency: CurrencyCode | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ExchangeRateOut]:
    """List rates by currency, the newest first; to the tenant's base currency unless `base` names another."""
    after = None if cursor is None else _after(cursor)
    found = await rates.page(session, base=base, code=currency, limit=limit + 1, after=after)
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        items=[ExchangeRateOut.of(row) for row in found[:limit]],
        next_cursor=None if last is None else encode_cursor(last.currency, last.valid_from.isoformat()),
    )


@router.delete("/{currency}/{valid_from}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(
    currency: CurrencyCode, valid_from: date, session: SessionDep, actor: ActorDep, base: CurrencyCode | None = None
) -> None:
    """Delete a rate. 409 where it is the only one of a currency that deals are in."""
    await rates.remove(session, base, currency, valid_from, by=actor)


def _after(cursor: str) -> tuple[str, date]:
    currency, day = decode_cursor(cursor, [str, str])
    try:
        return currency, date.fromisoformat(day)
    except ValueError as error:
        raise InvalidError.of("cursor", "is not a cursor of this list") from error
