"""Two tenants alike: whatever is found of the second is a leak."""

from uuid import uuid4

import asyncpg
import pytest

from core.database import Database
from core.ids import new_ids
from services.tenancy import tenants
from tests.services.marketing.criteria.store import Store, fill


async def new_store(database: Database, database_url: str) -> Store:
    async with database.system() as session:
        tenant = await tenants.create(session, f"test-{uuid4().hex}", "Test")
    return await fill(database, database_url, tenant.id)


@pytest.fixture(scope="session")
async def store(database: Database, database_url: str) -> Store:
    """The tenant whose criteria run; nobody changes it."""
    return await new_store(database, database_url)


@pytest.fixture(scope="session")
async def other_store(database: Database, database_url: str) -> Store:
    """Another tenant with the same."""
    return await new_store(database, database_url)


@pytest.fixture(scope="session")
async def crowd(database: Database, database_url: str) -> Store:
    """A tenant with so many people that no machine joins ten times all of them within a test."""
    store = await new_store(database, database_url)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO person (tenant_id, id) SELECT $1, unnest($2::uuid[])", store.tenant_id, new_ids(100)
        )
    finally:
        await connection.close()
    return store
