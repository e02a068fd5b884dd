"""The tenant's own tax rates."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from models import TaxRate
from services.commerce import tax_rates

router = Router(prefix="/tax-rates", tags=["carts"])

READ = [requires("tenant:read")]
WRITE = [requires("tenant:write")]

Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=4, allow_inf_nan=False, examples=["19"])]
"""At most four decimal places."""


class TaxRateIn(Strict):
    """What part of a price is tax where goods of a class go to."""

    country: Annotated[str, Field(max_length=200, examples=["DE"])]
    """ISO 3166-1 alpha-2."""
    region: Annotated[str | None, Field(max_length=200, examples=["CA"])] = None
    """As addresses there have it; all that has no rate of its own unless given."""
    tax_class: Key = "standard"
    rate: Percent
    name: Name

    def fields(self) -> dict[str, Any]:
        """Return its columns."""
        return self.model_dump(exclude={"rate"}) | {"rate_ppm": _ppm(self.rate)}


class RatePatch(Strict):
    """What to change; a field left out, or null, stays as it is."""

    rate: Percent | None = None
    name: Name | None = None

    def fields(self) -> dict[str, Any]:
        """Return the columns to change."""
        changes: dict[str, Any] = {} if self.name is None else {"name": self.name}
        return changes if self.rate is None else changes | {"rate_ppm": _ppm(self.rate)}


class TaxRateOut(Strict):
    """A tax rate."""

    id: UUID
    country: str
    region: str | None
    tax_class: str
    rate: Decimal
    """Percent."""
    name: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: TaxRate) -> Self:
        """Return the answer for a rate."""
        names = cls.model_fields.keys() - {"region", "rate"}
        percent = Decimal(f"{Decimal(row.rate_ppm).scaleb(-4).normalize():f}")
        return cls(**{name: getattr(row, name) for name in names}, region=row.region or None, rate=percent)


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: TaxRateIn, session: SessionDep, actor: ActorDep) -> TaxRateOut:
    """Add a rate. 409 where there is one for that place and class."""
    return TaxRateOut.of(await tax_rates.create(session, body.fields(), by=actor))


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[TaxRateOut]:
    """List rates, oldest first."""
    after: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await tax_rates.page(session, limit=limit + 1, after=after)
    return Page(
        items=[TaxRateOut.of(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{tax_rate_id}", dependencies=READ)
async def get(tax_rate_id: UUID, session: SessionDep) -> TaxRateOut:
    """Return a rate."""
    return TaxRateOut.of(await tax_rates.get(session, tax_rate_id))


@router.patch("/{tax_rate_id}", dependencies=WRITE)
async def update(tax_rate_id: UUID, body: RatePatch, session: SessionDep, actor: ActorDep) -> TaxRateOut:
    """Change a rate; carts follow, orders stay as they were."""
    return TaxRateOut.of(await tax_rates.update(session, tax_rate_id, body.fields(), by=actor))


@router.delete("/{tax_rate_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(tax_rate_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a rate; carts follow."""
    await tax_rates.delete(session, tax_rate_id, by=actor)


def _ppm(percent: Decimal) -> int:
    return int(percent.scaleb(4))
