"""The activity of geocoding: asks outside of any transaction, then writes where nothing has changed meanwhile."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from contracts.geocoding import LOCATE, GeocodeOutcome, GeocodeRequest, GeocodeResult
from core.database import Database
from integrations.geocoding.port import Geocoder, RefusedError
from services.shared import address_locations


class GeocodingActivities:
    """The store's and the geocoder's side, for one process."""

    def __init__(self, database: Database, geocoder: Geocoder) -> None:
        """Use `database` and ask `geocoder`."""
        self._database = database
        self._geocoder = geocoder

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.locate_address]

    @activity.defn(name=LOCATE)
    async def locate_address(self, request: GeocodeRequest) -> GeocodeResult:
        """Find and keep the coordinates of an address. Repeating it asks again only where none were kept."""
        return GeocodeResult(outcome=await self._locate(request))

    async def _locate(self, request: GeocodeRequest) -> GeocodeOutcome:
        async with self._database.tenant(request.tenant_id) as session:
            place = await address_locations.wanted(session, request.address_id)
        if place is None:
            return GeocodeOutcome.NEEDLESS
        try:
            found = await self._geocoder.locate(place)
        except RefusedError:
            return GeocodeOutcome.REFUSED
        if found is None:
            return GeocodeOutcome.UNKNOWN
        async with self._database.tenant(request.tenant_id) as session:
            kept = await address_locations.keep(session, request.address_id, place, found, self._geocoder.name)
        return GeocodeOutcome.LOCATED if kept else GeocodeOutcome.NEEDLESS
