"""Coordinates found by a real worker: however long the geocoder is away, and whatever changes meanwhile."""

from uuid import UUID

import pytest
from sqlalchemy import select
from temporalio.client import Client

from activities.geocoding import GeocodingActivities
from contracts.geocoding import GeocodeOutcome, GeocodeRequest
from core.actor import CLI
from core.database import Database
from integrations.geocoding.port import Location, Place, RefusedError, UnreachableError
from models import Activity
from services.shared import addresses
from services.shared.addresses import AddressChange
from tests.factories.geocoding import Geocoding, Scripted, geocoding

HOUSE = Location(50.94, 6.96, "building")


@pytest.fixture
async def wanted(database: Database, temporal_client: Client, tenant_id: UUID) -> Geocoding:
    return await geocoding(database, temporal_client, tenant_id)


async def test_coordinates_come_once_the_geocoder_answers(wanted: Geocoding) -> None:
    geocoder = Scripted([UnreachableError("away"), UnreachableError("away"), HOUSE])
    handle = await wanted.begin()
    async with wanted.worker(geocoder):
        assert (await handle.result()).outcome == GeocodeOutcome.LOCATED
    row = await wanted.row()
    assert (row.latitude, row.longitude, row.precision, row.geocoder) == (50.94, 6.96, "building", "scripted")
    assert geocoder.asked == [Place(country="DE", street="Hauptstr. 1", city="Köln", postal_code="50667")] * 3
    async with wanted.database.tenant(wanted.tenant_id) as session:
        logged = await session.scalars(
            select(Activity.type).where(Activity.tenant_id == wanted.tenant_id, Activity.subject_id == row.subject_id)
        )
        assert sorted(logged) == ["address.created", "address.updated", "person.created"]


@pytest.mark.parametrize(
    ("answer", "outcome"), [(None, GeocodeOutcome.UNKNOWN), (RefusedError("no"), GeocodeOutcome.REFUSED)]
)
async def test_a_place_that_is_not_known_is_asked_for_once(
    wanted: Geocoding, answer: Exception | None, outcome: GeocodeOutcome
) -> None:
    geocoder = Scripted([answer])
    handle = await wanted.begin()
    async with wanted.worker(geocoder):
        assert (await handle.result()).outcome == outcome
    assert (await wanted.row()).latitude is None
    assert len(geocoder.asked) == 1


class Meanwhile(Scripted):
    """Has the address changed while it is asked."""

    def __init__(self, wanted: Geocoding, change: AddressChange | None) -> None:
        super().__init__([HOUSE])
        self.wanted, self.change = wanted, change

    async def locate(self, place: Place) -> Location | None:
        """Change it, then answer."""
        if self.change is not None:
            await self.wanted.change(self.change)
        else:
            async with self.wanted.database.tenant(self.wanted.tenant_id) as session:
                await addresses.remove(session, self.wanted.address_id, by=CLI)
        return await super().locate(place)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (AddressChange(fields={"street": "Hauptstr. 2"}), False),
        (AddressChange(coordinates=(1.0, 2.0)), False),
        (AddressChange(fields={"name": "Ann"}), True),
        (None, False),
    ],
)
async def test_an_answer_is_kept_for_the_place_that_was_asked_for_alone(
    wanted: Geocoding, change: AddressChange | None, *, kept: bool
) -> None:
    geocoder = Meanwhile(wanted, change)
    activities = GeocodingActivities(wanted.database, geocoder)
    result = await activities.locate_address(GeocodeRequest(tenant_id=wanted.tenant_id, address_id=wanted.address_id))
    assert result.outcome == (GeocodeOutcome.LOCATED if kept else GeocodeOutcome.NEEDLESS)
    if change is not None:
        expected = 50.94 if kept else (1.0 if change.coordinates else None)
        assert (await wanted.row()).latitude == expected


async def test_asking_again_for_what_is_known_asks_nobody(wanted: Geocoding) -> None:
    geocoder = Scripted([HOUSE])
    activities = GeocodingActivities(wanted.database, geocoder)
    request = GeocodeRequest(tenant_id=wanted.tenant_id, address_id=wanted.address_id)
    outcomes = [(await activities.locate_address(request)).outcome for _ in range(2)]
    assert outcomes == [GeocodeOutcome.LOCATED, GeocodeOutcome.NEEDLESS]
    assert len(geocoder.asked) == 1
