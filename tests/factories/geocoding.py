"""An address whose coordinates are to be found by a real worker, which asks a geocoder that a test can break."""

from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import text
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.geocoding import GeocodingActivities
from contracts.geocoding import WORKFLOW, GeocodeResult
from core.actor import CLI
from core.database import Database
from integrations.geocoding.port import Location, Place
from models import Address
from relay.starts import WorkflowStarter
from services.identity import people
from services.identity.people import PersonChange
from services.shared import addresses
from services.shared.addresses import AddressChange
from workflows.geocode import GeocodeWorkflow

KOELN = {"street": "Hauptstr. 1", "city": "Köln", "postal_code": "50667", "country": "DE"}


@dataclass
class Scripted:
    """Answers as it is told to, and keeps what it was asked."""

    name: ClassVar[str] = "scripted"
    answers: list[Location | Exception | None] = field(default_factory=list[Location | Exception | None])
    asked: list[Place] = field(default_factory=list[Place])

    async def locate(self, place: Place) -> Location | None:
        """Give the next answer; the last one for ever."""
        self.asked.append(place)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True, slots=True)
class Geocoding:
    """An address of a tenant; nothing else may be owed to Temporal there."""

    database: Database
    client: Client
    tenant_id: UUID
    address_id: UUID
    queue: str = field(default_factory=lambda: f"identity-{uuid4().hex}")

    def worker(self, geocoder: Scripted) -> Worker:
        """Return a worker that asks this geocoder."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[GeocodeWorkflow],
            activities=GeocodingActivities(self.database, geocoder).all(),
        )

    async def begin(self) -> "WorkflowHandle[GeocodeWorkflow, GeocodeResult]":
        """Start what is owed, on the test's queue."""
        statement = text("UPDATE workflow_start SET queue = :queue WHERE tenant_id = :tenant RETURNING workflow_id")
        async with self.database.tenant(self.tenant_id) as session:
            owed = await session.execute(statement, {"queue": self.queue, "tenant": self.tenant_id})
            (workflow_id,) = owed.scalars()
        starter = WorkflowStarter(self.database, self.client)
        while await starter.once():  # others of this database may be owed before it
            pass
        assert workflow_id.startswith(f"{WORKFLOW}/{self.tenant_id}/")
        return self.client.get_workflow_handle_for(GeocodeWorkflow.run, workflow_id)

    async def row(self) -> Address:
        """Return the address as it stands."""
        async with self.database.tenant(self.tenant_id) as session:
            return await addresses.get(session, self.address_id)

    async def change(self, change: AddressChange) -> None:
        """Change the address, as where a server is asked for coordinates."""
        async with self.database.tenant(self.tenant_id) as session:
            await addresses.update(session, self.address_id, change, by=CLI, mode="nominatim")


async def geocoding(database: Database, client: Client, tenant_id: UUID) -> Geocoding:
    """Add a person with an address whose coordinates are owed."""
    async with database.tenant(tenant_id) as session:
        person, _ = await people.upsert(session, PersonChange(identifiers={"external_id": uuid4().hex}), by=CLI)
        change = AddressChange(fields=KOELN, purposes=["home"])
        address = await addresses.create(session, "person", person.id, change, by=CLI, mode="nominatim")
    return Geocoding(database, client, tenant_id, address.id)
