"""Every route, called with another tenant's ids: nothing is shown of them and nothing done to them.

A route added later is called too; `tests/api/world.py` says what it needs.
"""

from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from core.database import Database
from tests.api.world import (
    BODIES,
    BY_USERS,
    CONTENT_TYPES,
    INSTEAD,
    MAKERS,
    MARK,
    OF_TENANTS,
    OPERATIONS,
    QUERIES,
    Operation,
    World,
)
from tests.contents import Contents

WITHOUT_KEY = {
    "GET /healthz": "says nothing of tenants",
    "GET /readyz": "says nothing of tenants",
    "GET /t/s/{token}": "the signed token names tenant and person",
    "POST /t/s/{token}": "the signed token names tenant and person",
    "POST /v1/invitations/accept": "the token names tenant and invitation",
    "POST /v1/sessions": "address and password name the user",
    "GET /forms/{public_key}": "the form's public key names tenant and form",
    "POST /forms/{public_key}": "the form's public key names tenant and form",
    "POST /t/e": "the website's write key names the tenant",
    "GET /t/throughline.js": "a file",
    "GET /t/o/{token}": "the signed token names tenant and message",
    "GET /t/c/{token}": "the signed token names tenant and message",
    "GET /t/l/{code}": "the code, which nobody can guess, names tenant and link",
    "GET /t/u/{token}": "the signed token names tenant and person",
    "POST /t/u/{token}": "the signed token names tenant and person",
    "GET /t/p/{token}": "the signed token names tenant and person",
    "POST /t/p/{token}": "the signed token names tenant and person",
    "POST /v1/hooks/twilio/{token}": "the signed token names tenant and account, whose secret signs the report",
    "POST /v1/hooks/{provider}/{token}": "the signed token names tenant and account, whose secret signs the report",
    "POST /v1/payments/notices/{token}": "the signed token names tenant and account, whose secret signs the notice",
}
"""Routes that no key opens, and why none can reach into another tenant by them."""


@pytest.fixture
def world(client: AsyncClient, database: Database, tenant_id: UUID) -> World:
    """The things of the test's tenant."""
    return World(client, database, tenant_id)


@pytest.fixture(scope="module")
async def settled(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    """A tenant that has one of everything. No test may change it, so all can share it."""
    async with World.of_its_own(app, database) as world:
        await world.everything()
        yield world


@pytest.fixture(scope="module")
async def stranger(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    """Another tenant, whose key and whose owner may do everything there."""
    async with World.of_its_own(app, database) as world:
        yield world


def test_what_no_key_opens_is_declared_with_its_reason() -> None:
    assert {str(operation) for operation in OPERATIONS if not operation.needs_key} == set(WITHOUT_KEY)


def test_nothing_is_declared_that_is_no_route() -> None:
    routes = {str(operation) for operation in OPERATIONS}
    assert {*BODIES, *QUERIES, *INSTEAD, *CONTENT_TYPES, *BY_USERS} - routes == set()
    asked = {name for operation in OPERATIONS for name in operation.names}
    assert asked - {"token", "public_key", "code", "provider"} <= set(MAKERS)


@pytest.mark.parametrize("operation", OF_TENANTS, ids=str)
async def test_a_route_answers_its_own_tenant(operation: Operation, world: World) -> None:
    """Else the next test would prove nothing: it might be refused for another reason."""
    answer = await world.call(operation)
    assert answer.is_success, answer.text


@pytest.mark.parametrize("operation", OF_TENANTS, ids=str)
async def test_a_route_shows_and_does_nothing_of_another_tenant(
    operation: Operation, settled: World, world: World, stranger: World, contents: Contents
) -> None:
    if str(operation) in INSTEAD:
        await world.path(operation)
    else:
        world = settled
    stranger.token = None  # a call may have ended its session
    before = await contents.of(world.tenant_id)
    answer = await world.call(operation, by=stranger)
    own_ids = [value for value in world.made.values() if len(value) == len(str(uuid4()))]
    if set(await world.named(operation)).intersection(own_ids):
        assert answer.status_code == 404, answer.text
    else:
        assert answer.status_code < 500
    assert MARK not in answer.text
    if answer.is_success:
        assert [value for value in own_ids if value in answer.text] == []
    assert await contents.of(world.tenant_id) == before
