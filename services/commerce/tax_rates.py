"""The tenant's own table of tax rates. The rate of a region goes before that of its country."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from integrations.taxes.port import Destination
from models import TaxRate, Tenant
from services.shared import activity, address_rules

MAX_RATES: Final = 5_000


class TableTaxes:
    """Answers from the table; the default of `integrations.taxes.port.Taxes`."""

    def __init__(self, session: TenantSession) -> None:
        """Ask the table of the session's tenant."""
        self._session = session

    async def rates(
        self, destinations: Collection[Destination], classes: Collection[str]
    ) -> dict[Destination, dict[str, int]]:
        """Return the rate of each class at each destination; one statement, none where there is no destination."""
        found: dict[Destination, dict[str, int]] = {destination: {} for destination in destinations}
        if not found or not classes:
            return found
        rows = (
            await self._session.execute(
                select(TaxRate.country, TaxRate.region, TaxRate.tax_class, TaxRate.rate_ppm)
                .where(
                    TaxRate.tenant_id == self._session.tenant_id,
                    TaxRate.country.in_(sorted({destination.country for destination in found})),
                    TaxRate.tax_class.in_(sorted(set(classes))),
                )
                .order_by(TaxRate.region)  # the whole country's first: a region's own then takes its place
            )
        ).all()
        for destination, rates in found.items():
            for row in rows:
                if row.country == destination.country and row.region in {"", destination.region}:
                    rates[row.tax_class] = row.rate_ppm
        return found


async def included(session: TenantSession) -> bool:
    """Return whether the tenant's prices hold the tax."""
    found = await session.scalar(select(Tenant.prices_include_tax).where(Tenant.id == session.tenant_id))
    return bool(found)


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> TaxRate:
    """Add a rate, of `country`, `region`, `tax_class`, `rate_ppm` and `name`.

    Raises:
        InvalidError: no such country or region.
        ConflictError: there is one for that place and class, or there are too many.
    """
    place = _place(fields["country"], fields.get("region"))
    count = await session.scalar(
        select(func.count()).select_from(TaxRate).where(TaxRate.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_RATES:
        raise ConflictError(f"There can be at most {MAX_RATES} tax rates.")
    row = await session.scalar(
        insert(TaxRate)
        .values({"tenant_id": session.tenant_id, "id": new_id(), **fields, **place})
        .on_conflict_do_nothing()
        .returning(TaxRate)
    )
    if row is None:
        raise ConflictError(
            "There is a rate for this place and tax class already.", errors=[FieldProblem("country", "has a rate")]
        )
    changes = {**fields, **place}
    await _log(session, row, "created", {name: (None, value) for name, value in changes.items()}, by=by)
    return row


async def update(session: TenantSession, rate_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> TaxRate:
    """Change the `rate_ppm` or `name` of a rate; carts follow, orders stay as they were.

    Raises:
        NotFoundError: no such rate in this tenant.
    """
    row = await get(session, rate_id, lock=True)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    await _log(session, row, "updated", changes, by=by)
    return row


async def delete(session: TenantSession, rate_id: UUID, *, by: Actor) -> None:
    """Drop a rate.

    Raises:
        NotFoundError: no such rate in this tenant.
    """
    row = await get(session, rate_id, lock=True)
    await session.delete(row)
    await session.flush()
    gone = {"country": (row.country, None), "region": (row.region, None), "tax_class": (row.tax_class, None)}
    await _log(session, row, "deleted", gone, by=by)


async def get(session: TenantSession, rate_id: UUID, *, lock: bool = False) -> TaxRate:
    """Return a rate.

    Raises:
        NotFoundError: no such rate in this tenant.
    """
    row = await session.get(TaxRate, (session.tenant_id, rate_id), with_for_update=lock or None, populate_existing=True)
    if row is None:
        raise NotFoundError("No such tax rate.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[TaxRate]:
    """Return up to `limit` rates, oldest first, those made after `after` only."""
    statement = select(TaxRate).where(TaxRate.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(TaxRate.id > after)
    return (await session.scalars(statement.order_by(TaxRate.id).limit(limit))).all()


def _place(country: str, region: str | None) -> dict[str, str]:
    """Return country and region as addresses have them."""
    address, problems = address_rules.check({"country": country, "region": region})
    mine = [problem for problem in problems if problem.field == "country" or (problem.field == "region" and region)]
    if mine:
        raise InvalidError(f"{mine[0].field}: {mine[0].reason}", errors=mine)
    return {"country": address["country"] or "", "region": address["region"] or ""}


async def _log(session: TenantSession, row: TaxRate, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(
        session, by=by, subject_type="tax_rate", subject_id=row.id, type=f"tax_rate.{verb}", changes=changes
    )
