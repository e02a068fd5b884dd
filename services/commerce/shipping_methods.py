"""The tenant's own table of ways to send goods."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from integrations.shipping.port import Consignment, Offer
from models import ShippingMethod
from services.shared import activity, address_rules

MAX_METHODS: Final = 500


class TableShipping:
    """Answers from the table; the default of `integrations.shipping.port.Shipping`."""

    def __init__(self, session: TenantSession) -> None:
        """Ask the table of the session's tenant."""
        self._session = session

    async def offers(self, consignments: Collection[Consignment]) -> dict[Consignment, list[Offer]]:
        """Return the active methods in each's currency that go where it goes; one statement, none for nothing."""
        found: dict[Consignment, list[Offer]] = {consignment: [] for consignment in consignments}
        if not found:
            return found
        rows = await self._session.scalars(
            select(ShippingMethod)
            .where(
                ShippingMethod.tenant_id == self._session.tenant_id,
                ShippingMethod.currency.in_(sorted({consignment.currency for consignment in found})),
                ShippingMethod.active.is_(True),
            )
            .order_by(ShippingMethod.position, ShippingMethod.id)
        )
        for row in rows:
            for consignment, offers in found.items():
                fits = consignment.country is None or row.countries is None or consignment.country in row.countries
                if row.currency == consignment.currency and fits:
                    offers.append(Offer(row.key, row.name, row.amount_minor, row.free_from_minor, row.tax_class))
        return found


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> ShippingMethod:
    """Add a method: its columns by name.

    Raises:
        InvalidError: no such country.
        ConflictError: the key is taken in that currency, or there are too many.
    """
    fields = {**fields, "countries": _countries(fields.get("countries"))}
    count = await session.scalar(
        select(func.count()).select_from(ShippingMethod).where(ShippingMethod.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_METHODS:
        raise ConflictError(f"There can be at most {MAX_METHODS} shipping methods.")
    row = await session.scalar(
        insert(ShippingMethod)
        .values({"tenant_id": session.tenant_id, "id": new_id(), **fields})
        .on_conflict_do_nothing()
        .returning(ShippingMethod)
    )
    if row is None:
        raise ConflictError(
            f"There is a method {fields['key']} in {fields['currency']} already.",
            errors=[FieldProblem("key", "is taken")],
        )
    await _log(session, row, "created", {name: (None, value) for name, value in fields.items()}, by=by)
    return row


async def update(session: TenantSession, method_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> ShippingMethod:
    """Change a method: any of its columns but `key` and `currency`; carts follow, orders stay as they were.

    Raises:
        NotFoundError: no such method in this tenant.
        InvalidError: no such country.
    """
    row = await get(session, method_id, lock=True)
    fields = dict(fields)
    if "countries" in fields:
        fields["countries"] = _countries(fields["countries"])
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


async def delete(session: TenantSession, method_id: UUID, *, by: Actor) -> None:
    """Drop a method; carts that chose it have to choose another.

    Raises:
        NotFoundError: no such method in this tenant.
    """
    row = await get(session, method_id, lock=True)
    await session.delete(row)
    await session.flush()
    await _log(session, row, "deleted", {"key": (row.key, None), "currency": (row.currency, None)}, by=by)


async def get(session: TenantSession, method_id: UUID, *, lock: bool = False) -> ShippingMethod:
    """Return a method.

    Raises:
        NotFoundError: no such method in this tenant.
    """
    row = await session.get(
        ShippingMethod, (session.tenant_id, method_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such shipping method.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[ShippingMethod]:
    """Return up to `limit` methods, oldest first, those made after `after` only."""
    statement = select(ShippingMethod).where(ShippingMethod.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(ShippingMethod.id > after)
    return (await session.scalars(statement.order_by(ShippingMethod.id).limit(limit))).all()


def _countries(given: Sequence[str] | None) -> list[str] | None:
    if given is None:
        return None
    for number, code in enumerate(given):
        try:
            address_rules.rules(code)
        except ValueError as error:
            reason = "is not a country's code of two letters (ISO 3166-1)"
            raise InvalidError.of(f"countries.{number}", reason) from error
    return sorted(set(given))


async def _log(session: TenantSession, row: ShippingMethod, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(
        session,
        by=by,
        subject_type="shipping_method",
        subject_id=row.id,
        type=f"shipping_method.{verb}",
        changes=changes,
    )
