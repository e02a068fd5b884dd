"""How the store finds associations, as the application's role under row-level security."""

import json
from collections.abc import AsyncGenerator
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import Tenant
from services.objects import associations, linking
from services.objects.associations import Position
from services.objects.ends import End
from tests.factories.linking import add_one, new
from tests.services.identity.statements import indexes, nodes
from tests.services.identity.test_plans import plans

_PEOPLE = "INSERT INTO person (tenant_id, id) SELECT :tenant, tl_uuid7() FROM generate_series(1, 10000)"
_SHOPS = """
INSERT INTO organization (tenant_id, id, name, name_key, currency)
SELECT :tenant, tl_uuid7(), 'Shop ' || n, 'shop ' || n, 'EUR' FROM generate_series(1, 5000) AS n
"""
_LINKS = """
INSERT INTO association (tenant_id, id, label, {side}_organization_id, {other}_person_id)
SELECT :tenant, tl_uuid7(), 'fan', :shop, id FROM person WHERE tenant_id = :tenant
"""
_OTHERS = """
INSERT INTO association (tenant_id, id, label, from_person_id, to_person_id)
SELECT :tenant, tl_uuid7(), 'knows', a.id, b.id FROM person a JOIN person b ON a.id < b.id
WHERE a.tenant_id = :tenant AND b.tenant_id = :tenant LIMIT 10000
"""


@pytest.fixture(scope="module")
async def hub(database: Database, database_url: str) -> AsyncGenerator[tuple[UUID, End]]:
    """A tenant, and an organization there that is linked to ten thousand people, both ways."""
    tenant = new_id()
    async with database.system() as system:
        system.add(Tenant(id=tenant, key=f"hub-{tenant.hex}", name="Hub"))
    async with database.tenant(tenant) as session:
        shop = await add_one(session, "organization")
        for statement in (_PEOPLE, _SHOPS):
            await session.execute(text(statement), {"tenant": tenant})
        for side, other in (("from", "to"), ("to", "from")):
            statement = text(_LINKS.format(side=side, other=other))
            await session.execute(statement, {"tenant": tenant, "shop": UUID(shop)})
        await session.execute(text(_OTHERS), {"tenant": tenant})
    connection = await asyncpg.connect(database_url)
    await connection.execute("ANALYZE association, person, organization")
    yield tenant, End("organization", shop)
    await connection.close()


@pytest.mark.parametrize("label", [None, "fan"])
@pytest.mark.parametrize("after", [None, Position("fan", "person:5", "from")])
async def test_a_page_is_read_off_an_index_of_either_side(
    database: Database, hub: tuple[UUID, End], label: str | None, after: Position | None
) -> None:
    tenant, end = hub
    (plan,) = await plans(
        database, tenant, lambda session: associations.page(session, end, label=label, limit=50, after=after)
    )
    assert {
        "association_tenant_id_from_end_label_to_end_key",
        "association_tenant_id_to_end_label_from_end_idx",
    } <= indexes(plan), json.dumps(plan, indent=1)
    # what is sorted is what two sides gave, fifty each
    sorts = [node for node in nodes(plan) if "Sort" in node["Node Type"]]
    assert all(node["Plan Rows"] <= 100 for node in sorts), json.dumps(plan, indent=1)
    ways = {node["Node Type"] for node in nodes(plan) if node.get("Relation Name") == "association"}
    assert not ways & {"Seq Scan", "Bitmap Heap Scan"}, json.dumps(plan, indent=1)


async def test_linking_looks_up_what_is_there_by_indexes(database: Database, hub: tuple[UUID, End]) -> None:
    tenant, end = hub
    async with database.tenant(tenant) as session:
        person = await add_one(session, "person")
    wanted = [new((end.type, end.id), label, ("person", person)) for label in ("fan", "new")]
    for plan in await plans(database, tenant, lambda session: linking.create_all(session, wanted, by=CLI)):
        scanned = {node.get("Relation Name") for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"association", "person", "organization"}, json.dumps(plan, indent=1)


async def test_parting_looks_up_what_is_linked_by_indexes(database: Database, hub: tuple[UUID, End]) -> None:
    tenant, end = hub
    (plan,) = await plans(database, tenant, lambda session: associations.people_of(session, "order", "none"))
    assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}, json.dumps(plan, indent=1)
    assert end.type == "organization"
