"""What runs beside the relay: housekeeping, and what is owed to Temporal."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import func, select
from temporalio.client import Client, ScheduleDescription
from temporalio.service import RPCError

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import UserSession
from relay import process
from services.shared import schedules
from services.tenancy import sessions, tenants
from services.tenancy.sessions import Origin
from tests.eventually import eventually
from tests.factories.teammates import add_user


class Nothing(BaseModel):
    pass


async def test_sessions_that_are_over_are_forgotten_however_many(database: Database, tenant_id: UUID) -> None:
    user = await add_user(database, tenant_id)
    long_ago = datetime.now(UTC) - timedelta(days=1)
    async with database.tenant(tenant_id) as session:
        for at in (long_ago, long_ago, long_ago, datetime.now(UTC)):
            await sessions.start(session, user.id, Origin(None, None), by=CLI, now=at)
    await process.forget_sessions(database)
    async with database.tenant(tenant_id) as session:
        left = select(func.count()).select_from(UserSession).where(UserSession.tenant_id == tenant_id)
        assert await session.scalar(left) == 1


async def test_schedules_are_kept_wherever_a_relay_runs(empty_database_url: str, temporal_client: Client) -> None:
    database, stop, entity_id = Database(empty_database_url), asyncio.Event(), new_id()
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "t", "T")).id
    async with database.tenant(tenant_id) as session:
        await schedules.keep(
            session,
            workflow="test_kept",
            entity_id=entity_id,
            input=Nothing(),
            cron="0 0 29 2 *",
            time_zone="UTC",
            domain="identity",
        )
    handle = temporal_client.get_schedule_handle(f"test_kept/{tenant_id}/{entity_id}")

    async def described() -> ScheduleDescription | None:
        try:
            return await handle.describe()
        except RPCError:
            return None

    running = asyncio.create_task(process.run(database, temporal_client, stop, eager=False))
    try:
        await eventually(described)
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await running
    await handle.delete()
    await database.close()
