"""Two tenants alike: whatever is found of the second is a leak."""

from uuid import uuid4

import pytest

from core.database import Database
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
