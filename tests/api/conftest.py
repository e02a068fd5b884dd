"""The API over the real store, called in process; each test has a tenant and a key of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from api.app import create_app
from api.rest.sender_domains import get_lookup
from api.tracking.rates import Buckets
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.tenancy import api_keys
from tests.api import conformance


class NoRecords:
    """A DNS without a record: tests ask none of other hosts."""

    async def txt(self, name: str) -> list[str]:
        """Find nothing."""
        return []


@asynccontextmanager
async def serving(app: FastAPI, secret: str | None = None, host: str = "127.0.0.1") -> AsyncGenerator[AsyncClient]:
    """A client of the app that sends this key, from this address; each answer must be as the document has it."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    transport = ASGITransport(app, client=(host, 123))
    hooks: dict[str, list[Any]] = {"response": [conformance.check]}
    async with AsyncClient(
        transport=transport, base_url="http://api.test", headers=headers, event_hooks=hooks
    ) as client:
        yield client


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application, opened."""
    app = create_app(settings)
    # All tests sign in from one address.
    app.state.resources = replace(app.state.resources, sign_ins=Buckets(rate=1, burst=10_000))
    app.dependency_overrides[get_lookup] = NoRecords
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
