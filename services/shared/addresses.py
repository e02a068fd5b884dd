"""Postal addresses of people and organizations. A change is logged and published in its transaction.

It is logged with whose address it is, so that a person's history, and its erasure, have it. Whoever changes an address
holds its subject first: so at most one of a subject's addresses has each purpose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func, select

from contracts.events import ADDRESS_CREATED, ADDRESS_DELETED, ADDRESS_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from integrations.geocoding.port import Location
from models import Address, Organization
from models.addresses import ADDRESS_PURPOSES
from services.events.publish import NewEvent, publish
from services.identity import lifecycle, people
from services.shared import activity, address_locations, address_rules
from services.shared.address_locations import CALLER, Mode

SubjectType = Literal["person", "organization"]
Purpose = Literal["home", "work", "billing", "shipping", "headquarters", "branch", "other"]

_LATITUDES: Final = 90
_LONGITUDES: Final = 180
_LOGGED: Final = ("purposes", *address_rules.FIELDS, "country", "latitude", "longitude")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressChange:
    """What a caller wants to be true of an address; what is not named stays."""

    fields: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Of `address_rules.FIELDS` and `country`; None clears."""
    purposes: Sequence[str] | None = None
    """Taken from the subject's other addresses."""
    coordinates: tuple[float, float] | None = None
    """Latitude and longitude, WGS 84, degrees; they win over any geocoder."""


async def create(
    session: TenantSession,
    subject_type: SubjectType,
    subject_id: UUID,
    change: AddressChange,
    *,
    by: Actor,
    mode: Mode = "offline",
) -> Address:
    """Add an address to a person or an organization; return it.

    Raises:
        NotFoundError: no such person or organization in this tenant.
        InvalidError: it is not an address as its country has them; every field at fault is named.
    """
    fields = address_rules.normalized(change.fields)
    _check(change)
    subject_id = await _hold(session, subject_type, subject_id)
    address = Address(
        tenant_id=session.tenant_id,
        id=new_id(),
        subject_type=subject_type,
        subject_id=subject_id,
        purposes=_ordered(change.purposes or ()),
        **fields,
    )
    await _take_purposes(session, address, address.purposes, by=by)
    await _locate(session, address, change, mode)
    session.add(address)
    await session.flush()
    await session.refresh(address)
    changes = {name: (None, value) for name, value in _state(address).items() if value not in (None, [])}
    await _report(session, address, ADDRESS_CREATED, changes, by=by)
    return address


async def update(
    session: TenantSession, address_id: UUID, change: AddressChange, *, by: Actor, mode: Mode = "offline"
) -> Address:
    """Change an address; return it. A new place loses the old one's coordinates, whoever gave them.

    Raises:
        NotFoundError: no such address in this tenant.
        InvalidError: it would be no address as its country has them; every field at fault is named.
    """
    address = await _locked(session, address_id)
    before = _state(address)
    whole = {name: getattr(address, name) for name in (*address_rules.FIELDS, "country")} | dict(change.fields)
    fields = address_rules.normalized(whole)
    _check(change)
    moved = any(fields[name] != getattr(address, name) for name in address_rules.PLACE)
    for name, value in fields.items():
        setattr(address, name, value)
    if change.purposes is not None:
        address.purposes = _ordered(change.purposes)
        await _take_purposes(session, address, address.purposes, by=by)
    if moved or change.coordinates is not None:
        await _locate(session, address, change, mode)
    after = _state(address)
    changes = {name: (before[name], after[name]) for name in _LOGGED if before[name] != after[name]}
    if changes:
        address.updated_at = func.now()
        await session.flush()
        await session.refresh(address)
        await _report(session, address, ADDRESS_UPDATED, changes, by=by)
    return address


async def remove(session: TenantSession, address_id: UUID, *, by: Actor) -> None:
    """Delete an address.

    Raises:
        NotFoundError: no such address in this tenant.
    """
    address = await _locked(session, address_id)
    changes = {name: (value, None) for name, value in _state(address).items() if value not in (None, [])}
    await session.delete(address)
    await session.flush()
    await _report(session, address, ADDRESS_DELETED, changes, by=by)


async def get(session: TenantSession, address_id: UUID) -> Address:
    """Return the address.

    Raises:
        NotFoundError: no such address in this tenant.
    """
    address = await session.get(Address, (session.tenant_id, address_id))
    if address is None:
        raise NotFoundError("No such address.")
    return address


async def page(
    session: TenantSession, subject_type: SubjectType, subject_id: UUID, *, limit: int, before: UUID | None
) -> list[Address]:
    """Return up to `limit` addresses of a person or an organization, newest first, those before `before` only.

    Raises:
        NotFoundError: no such person or organization in this tenant.
    """
    subject_id = await _subject(session, subject_type, subject_id)
    statement = select(Address).where(
        Address.tenant_id == session.tenant_id, Address.subject_type == subject_type, Address.subject_id == subject_id
    )
    if before is not None:
        statement = statement.where(Address.id < before)
    return list(await session.scalars(statement.order_by(Address.id.desc()).limit(limit)))


def _check(change: AddressChange) -> None:
    for purpose in change.purposes or ():
        if purpose not in ADDRESS_PURPOSES:
            raise InvalidError.of("purposes", f"may be {', '.join(ADDRESS_PURPOSES)}")
    if change.coordinates is not None:
        for name, degrees, most in zip(
            ("latitude", "longitude"), change.coordinates, (_LATITUDES, _LONGITUDES), strict=True
        ):
            if not -most <= degrees <= most:
                raise InvalidError.of(name, f"must be from -{most} to {most} degrees")


def _ordered(purposes: Sequence[str]) -> list[str]:
    return [purpose for purpose in ADDRESS_PURPOSES if purpose in purposes]


async def _subject(session: TenantSession, subject_type: str, subject_id: UUID) -> UUID:
    """Return the id of whose address it is: that of a person who was merged is the winner's."""
    if subject_type == "person":
        try:
            return (await people.get(session, subject_id)).id
        except NotFoundError:
            raise _no(subject_type) from None
    if await session.get(Organization, (session.tenant_id, subject_id)) is None:
        raise _no(subject_type)
    return subject_id


async def _hold(session: TenantSession, subject_type: str, subject_id: UUID) -> UUID:
    """As `_subject`; it stays, and nobody else changes its addresses, until the transaction ends."""
    found = await _subject(session, subject_type, subject_id)
    if subject_type == "person":
        held = found in await lifecycle.lock(session, [found])
    else:
        locked = select(Organization.id).where(Organization.tenant_id == session.tenant_id, Organization.id == found)
        held = await session.scalar(locked.with_for_update(key_share=True)) is not None
    if not held:
        raise _no(subject_type)
    return found


def _no(subject_type: str) -> NotFoundError:
    reason = f"there is no such {subject_type}"
    return NotFoundError(f"No such {subject_type}.", errors=[FieldProblem("subject_id", reason)])


async def _locked(session: TenantSession, address_id: UUID) -> Address:
    """Return the address as it is now, held with its subject."""
    address = await get(session, address_id)
    await _hold(session, address.subject_type, address.subject_id)
    found = await session.get(Address, (session.tenant_id, address_id), with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFoundError("No such address.")
    return found


async def _take_purposes(session: TenantSession, address: Address, purposes: Sequence[str], *, by: Actor) -> None:
    """Have no other address of the subject, which is held, be for these purposes."""
    others = await session.scalars(
        select(Address).where(
            Address.tenant_id == session.tenant_id,
            Address.subject_type == address.subject_type,
            Address.subject_id == address.subject_id,
            Address.id != address.id,
            Address.purposes.overlap(list(purposes)),
        )
    )
    for other in others.all():  # at most one a purpose
        before = other.purposes
        other.purposes = [purpose for purpose in before if purpose not in purposes]
        await session.flush()
        await _report(session, other, ADDRESS_UPDATED, {"purposes": (before, other.purposes)}, by=by)


async def _locate(session: TenantSession, address: Address, change: AddressChange, mode: Mode) -> None:
    if change.coordinates is None:
        await address_locations.locate(session, address, mode)
        return
    latitude, longitude = change.coordinates
    address_locations.put(address, (Location(latitude, longitude, "building"), CALLER))
    address.precision = None  # nobody said


def _state(address: Address) -> dict[str, Any]:
    """Return what the log shows of an address."""
    return {name: getattr(address, name) for name in _LOGGED}


async def _report(
    session: TenantSession, address: Address, verb: str, changes: Mapping[str, tuple[Any, Any]], *, by: Actor
) -> None:
    which = str(address.id)
    await activity.record(
        session,
        by=by,
        subject_type=address.subject_type,
        subject_id=address.subject_id,
        type=verb,
        changes={"address_id": (which, which), **changes},
    )
    event = NewEvent(
        verb,
        address.subject_id,
        subject_type=address.subject_type,
        properties={"address_id": which, "purposes": address.purposes, "fields": sorted(changes)},
    )
    await publish(session, [event])
