"""A worker's surroundings, on the real servers."""

from collections.abc import AsyncGenerator

import pytest
from temporalio.client import Client

from core.database import Database
from services.tenancy import tenants
from tests.factories.campaigning import Campaigning, campaigning
from tests.factories.marketing import Marketing
from tests.factories.running import Platform, platform


@pytest.fixture
async def running(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Platform]:
    """A platform over an empty database, so that no other test's events are on the bus."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    async with platform(Marketing(database, tenant.id, empty_database_url), temporal_client) as running:
        yield running
    await database.close()


@pytest.fixture
async def alone(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Campaigning]:
    """Campaigns in a database of the test's own: a sender sends what is queued for any tenant."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    yield campaigning(Marketing(database, tenant.id, empty_database_url), temporal_client)
    await database.close()
