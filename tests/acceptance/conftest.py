"""The whole platform over a store of its own."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from httpx import AsyncClient
from temporalio.client import Client

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving
from tests.factories.campaigning import Campaigning, campaigning
from tests.factories.marketing import Marketing
from tests.factories.offices import Office, opened
from tests.factories.running import Platform, platform
from tests.factories.whole import Whole, whole


@pytest.fixture
async def running(empty_database_url: str, temporal_client: Client) -> AsyncGenerator[Platform]:
    """A platform over an empty database."""
    database = Database(empty_database_url)
    async with database.system() as session:
        tenant = await tenants.create(session, "test", "Test")
    async with platform(Marketing(database, tenant.id, empty_database_url), temporal_client) as running:
        yield running
    await database.close()


@pytest.fixture
async def client(running: Platform, settings: Settings) -> AsyncGenerator[AsyncClient]:
    """A client of the API over that database."""
    app = create_app(settings.model_copy(update={"database_url": running.marketing.url}))
    async with running.marketing.session() as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        yield client


@pytest.fixture
async def shop(
    empty_database_url: str, settings: Settings, temporal_client: Client, tmp_path: Path
) -> AsyncGenerator[Whole]:
    """The whole platform over an empty database, without the queues of others."""
    async with whole(empty_database_url, settings, temporal_client, tmp_path) as shop:
        yield shop


@pytest.fixture
async def desk(running: Platform) -> Campaigning:
    """The tenant's campaigns, with a task queue of their own."""
    return campaigning(running.marketing, running.client)


@pytest.fixture
async def office(client: AsyncClient, desk: Campaigning, settings: Settings, tmp_path: Path) -> AsyncGenerator[Office]:
    """The tenant's campaigns as the API has them, and what sends them."""
    async with opened(client, desk, settings, tmp_path) as office:
        yield office
