"""Housekeeping beside the relay."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from core.actor import CLI
from core.database import Database
from models import UserSession
from relay import process
from services.tenancy import sessions
from services.tenancy.sessions import Origin
from tests.factories.teammates import add_user


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
