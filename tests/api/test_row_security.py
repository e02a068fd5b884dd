"""Row-level security alone holds: every route, with the tenant filter taken out of every statement it sends."""

from collections.abc import AsyncGenerator
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI

from api.app import create_app
from core.database import Database
from core.settings import Settings
from services.identity import directory
from tests import statements
from tests.api.world import OF_TENANTS, Operation, World
from tests.contents import Contents
from tests.factories.marketing import Marketing


@pytest.fixture(scope="module")
async def neighbour(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    """A tenant with one of everything, in the same tables."""
    async with World.of_its_own(app, database) as world:
        await world.everything()
        yield world


@pytest.fixture(scope="module")
async def bare_app(settings: Settings, neighbour: World) -> AsyncGenerator[FastAPI]:
    """An application whose connections have prepared nothing yet."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="module")
async def read(bare_app: FastAPI, database: Database) -> AsyncGenerator[World]:
    """What the routes that only read are asked for."""
    async with World.of_its_own(bare_app, database) as world:
        with statements.unfiltered():
            await world.everything()
        yield world


@pytest.mark.parametrize("operation", [each for each in OF_TENANTS if each.method == "GET"], ids=str)
async def test_without_its_filters_a_reading_route_shows_its_own_tenant_alone(
    operation: Operation, read: World, neighbour: World
) -> None:
    with statements.unfiltered():
        answer = await read.call(operation)
    assert answer.is_success, answer.text
    assert ids_of(neighbour, answer.text) == []


def ids_of(world: World, text: str) -> list[str]:
    """Return the ids of a world's things that a text holds."""
    return [value for value in world.made.values() if len(value) == len(str(uuid4())) and value in text]


@pytest.mark.parametrize("operation", [each for each in OF_TENANTS if each.method != "GET"], ids=str)
async def test_without_its_filters_a_writing_route_changes_its_own_tenant_alone(
    operation: Operation, bare_app: FastAPI, database: Database, neighbour: World, contents: Contents
) -> None:
    before = await contents.of(neighbour.tenant_id)
    with statements.unfiltered():
        async with World.of_its_own(bare_app, database) as world:
            answer = await world.call(operation)
    assert answer.is_success, answer.text
    assert ids_of(neighbour, answer.text) == []
    assert await contents.of(neighbour.tenant_id) == before


async def test_what_is_taken_out_is_all_that_the_statement_itself_does(
    marketing: Marketing, other_tenant: Marketing, database_url: str
) -> None:
    (mine,), (theirs,) = await marketing.people(1), await other_tenant.people(1)
    sql = "SELECT id FROM person WHERE person.tenant_id = $1::UUID AND first_name IS NULL"
    bare = statements.without_filter(sql)
    connection = await asyncpg.connect(database_url)
    try:
        assert {mine, theirs} <= {row["id"] for row in await connection.fetch(bare, marketing.tenant_id)}
    finally:
        await connection.close()
    async with marketing.database.hot(marketing.tenant_id) as own:
        assert await own.fetchval("SELECT count(*) FROM person WHERE id = $1", theirs) == 0
        assert [row["id"] for row in await own.fetch(bare, UUID(int=0))] == [mine]


async def test_our_code_is_what_loses_its_filters(
    marketing: Marketing, other_tenant: Marketing, database_url: str
) -> None:
    (mine,), _ = await marketing.people(1), await other_tenant.people(1)
    fresh = Database(database_url, pool_size=1)
    with statements.unfiltered() as removed:
        async with fresh.tenant(marketing.tenant_id) as session:
            found = await directory.page(session, directory.Filter(), limit=10, before=None)
    await fresh.close()
    assert [person.id for person in found] == [mine]
    assert [sql for sql in removed if "FROM person" in sql]
