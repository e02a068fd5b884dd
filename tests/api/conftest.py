"""The API over the real store, called in process; each test has a tenant and a key of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.tenancy import api_keys


@asynccontextmanager
async def serving(app: FastAPI, secret: str | None = None) -> AsyncGenerator[AsyncClient]:
    """A client of the app that sends this key."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://api.test", headers=headers) as client:
        yield client


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application, opened."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def secret(database: Database, tenant_id: UUID) -> str:
    """A key of the test's tenant that may do everything."""
    async with database.tenant(tenant_id) as session:
        return (await api_keys.create(session, "test", ["*"], by=CLI))[1]


@pytest.fixture
async def client(app: FastAPI, secret: str) -> AsyncGenerator[AsyncClient]:
    """A client with the test's key."""
    async with serving(app, secret) as client:
        yield client


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """A client without a key."""
    async with serving(app) as client:
        yield client
