"""Merging people keeps their organizations and addresses, each once; undoing gives them back."""

from uuid import UUID

from sqlalchemy import select

from core.actor import CLI
from core.database import Database, TenantSession
from models import Address, OrganizationPerson, Person
from services.identity import merging, organization_people, organizations, people, unmerging
from services.identity.organization_change import OrganizationChange
from services.identity.organization_people import NewLink
from services.identity.people import PersonChange
from services.shared import addresses
from services.shared.addresses import AddressChange

PLACE = {"street": "Weg 1", "city": "Bonn", "postal_code": "53111", "country": "DE"}


async def links(session: TenantSession, person_id: UUID) -> list[tuple[str, bool]]:
    rows = await session.execute(
        select(OrganizationPerson.kind, OrganizationPerson.is_primary)
        .where(OrganizationPerson.tenant_id == session.tenant_id, OrganizationPerson.person_id == person_id)
        .order_by(OrganizationPerson.id)
    )
    return [(row.kind, row.is_primary) for row in rows]


async def purposes(session: TenantSession, person_id: UUID) -> list[list[str]]:
    rows = await session.scalars(
        select(Address.purposes)
        .where(Address.tenant_id == session.tenant_id, Address.subject_id == person_id)
        .order_by(Address.id)
    )
    return list(rows)


async def roles(session: TenantSession, person_id: UUID) -> tuple[bool, bool]:
    person = await session.get_one(Person, (session.tenant_id, person_id), populate_existing=True)
    return person.is_employee, person.is_vendor


async def test_links_and_addresses_go_to_the_winner_and_back(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        winner, loser = [
            (await people.upsert(session, PersonChange(identifiers={"external_id": key}), by=CLI))[0].id
            for key in ("winner", "loser")
        ]
        for number, (person, kind) in enumerate(((winner, "employee"), (loser, "vendor"))):
            change = OrganizationChange(fields={"name": f"O{number}"})
            organization, _ = await organizations.upsert(session, change, by=CLI)
            new = NewLink(person_id=person, kind="vendor" if kind == "vendor" else "employee", is_primary=True)
            await organization_people.add(session, organization.id, new, by=CLI)
        for person, given in ((winner, ["home"]), (loser, ["home", "billing"]), (loser, ["work"])):
            await addresses.create(session, "person", person, AddressChange(fields=PLACE, purposes=given), by=CLI)
    async with database.tenant(tenant_id) as session:
        merged = await merging.merge(session, winner, loser, by=CLI)
    async with database.tenant(tenant_id) as session:
        assert await links(session, winner) == [("employee", True), ("vendor", False)]
        assert await purposes(session, winner) == [["home"], ["billing"], ["work"]]
        assert await roles(session, winner) == (True, True)
        listed = await organization_people.of_person(session, winner, current=True, limit=10, before=None)
        assert len(listed) == 2
        found = await addresses.page(session, "person", loser, limit=10, before=None)
        assert len(found) == 3, "the loser's id means the winner"
        added = await addresses.create(
            session, "person", loser, AddressChange(fields=PLACE, purposes=["shipping"]), by=CLI
        )
        assert added.subject_id == winner
        await addresses.remove(session, added.id, by=CLI)
    async with database.tenant(tenant_id) as session:
        await unmerging.undo(session, merged.id, by=CLI)
    async with database.tenant(tenant_id) as session:
        assert await links(session, winner) == [("employee", True)]
        assert await links(session, loser) == [("vendor", True)]
        assert await purposes(session, winner) == [["home"]]
        assert await purposes(session, loser) == [["home", "billing"], ["work"]]
        assert (await roles(session, winner), await roles(session, loser)) == ((True, False), (False, True))
