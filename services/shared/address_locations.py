"""Where addresses are: found at once in a table of cities, or soon after by a server elsewhere."""

from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import select

from contracts.events import ADDRESS_UPDATED
from contracts.geocoding import WORKFLOW, GeocodeRequest
from core.actor import SYSTEM
from core.database import TenantSession
from core.ids import new_id
from integrations.geocoding.offline import OfflineGeocoder
from integrations.geocoding.port import Location, Place
from models import Address
from services.events.publish import NewEvent, publish
from services.shared import activity, starts

Mode = Literal["offline", "nominatim"]
"""Who finds coordinates: by the table at once, or by a server asked from a workflow."""

CALLER: Final = "caller"
"""Kept as who gave the coordinates where a caller did."""

_TABLE: Final = OfflineGeocoder()


def place_of(address: Address) -> Place:
    """Return where an address says it is."""
    return Place(
        country=address.country,
        street=address.street,
        city=address.city,
        region=address.region,
        postal_code=address.postal_code,
    )


async def look_up(place: Place) -> tuple[Location, str] | None:
    """Return what the table knows of a place, and the table's name."""
    found = await _TABLE.locate(place)
    return None if found is None else (found, _TABLE.name)


async def locate(session: TenantSession, address: Address, mode: Mode) -> None:
    """Give an address whose place is new the coordinates that can be had now, or have them found after the commit."""
    put(address, None)
    if mode == "offline":
        put(address, await look_up(place_of(address)))
        return
    # An id of its own: the same address may move again, and each place is asked for once.
    request = GeocodeRequest(tenant_id=session.tenant_id, address_id=address.id)
    await starts.owe(session, workflow=WORKFLOW, entity_id=new_id(), input=request)


def put(address: Address, found: tuple[Location, str] | None) -> None:
    """Set or clear the coordinates."""
    location, by = found or (None, None)
    address.latitude = None if location is None else location.latitude
    address.longitude = None if location is None else location.longitude
    address.precision = None if location is None else location.precision
    address.geocoder = by
    address.geocoded_at = None if location is None else datetime.now(UTC)


async def wanted(session: TenantSession, address_id: UUID) -> Place | None:
    """Return the place whose coordinates are still to be found; None where there is nothing to do."""
    address = await session.get(Address, (session.tenant_id, address_id))
    return None if address is None or address.geocoder is not None else place_of(address)


async def keep(session: TenantSession, address_id: UUID, place: Place, found: Location, geocoder: str) -> bool:
    """Keep what was found for a place; False where the address is no longer there, or has coordinates already."""
    address = await session.scalar(
        select(Address)
        .where(Address.tenant_id == session.tenant_id, Address.id == address_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if address is None or address.geocoder is not None or place_of(address) != place:
        return False
    put(address, (found, geocoder))
    await session.flush()
    changes: dict[str, tuple[Any, Any]] = {
        "address_id": (str(address.id), str(address.id)),
        "latitude": (None, found.latitude),
        "longitude": (None, found.longitude),
    }
    await activity.record(
        session,
        by=SYSTEM,
        subject_type=address.subject_type,
        subject_id=address.subject_id,
        type=ADDRESS_UPDATED,
        changes=changes,
    )
    event = NewEvent(
        ADDRESS_UPDATED,
        address.subject_id,
        subject_type=address.subject_type,
        properties={"address_id": str(address.id), "fields": ["latitude", "longitude"]},
    )
    await publish(session, [event])
    return True
