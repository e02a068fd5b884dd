"""Connections of the pools: no work meets one that the server has ended."""

from uuid import UUID

import asyncpg
from sqlalchemy import text

from core.database import Database

PID = text("SELECT pg_backend_pid()")


async def backends(database: Database, tenant_id: UUID) -> list[int]:
    """Return the server's processes behind a connection of each pool."""
    async with database.tenant(tenant_id) as session:
        app = await session.scalar(PID)
    async with database.system() as session:
        system = await session.scalar(PID)
    async with database.hot(tenant_id) as connection:
        hot = await connection.fetchval(str(PID))
    return [app, system, hot]


async def test_what_the_server_has_ended_is_not_lent(database: Database, database_url: str, tenant_id: UUID) -> None:
    before = await backends(database, tenant_id)
    assert await backends(database, tenant_id) == before, "connections are kept"
    admin = await asyncpg.connect(database_url)
    for pid in before:
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await admin.close()
    after = await backends(database, tenant_id)
    assert not set(after) & set(before)
