"""Publishing under people's feet, as the API does it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from core.actor import CLI
from journeys.migration import Instruction
from models import JourneyMigration
from services.journeys import journeys, migrating, publishing
from services.journeys.versions import LoadedVersion
from tests.factories.marketing import Marketing


async def publish(
    marketing: Marketing, definition: Mapping[str, Any], **plan: Instruction
) -> tuple[LoadedVersion, UUID]:
    """Publish the next version, and begin to move people to it; return it, and the migration's id."""
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        await journeys.save_draft(session, journey, definition=definition, name=None, by=CLI)
        done = await publishing.publish(session, journey, plan=plan, by=CLI)
        assert done.migration is not None
        version_id, migration_id = done.version.id, done.migration.id
    return await marketing.version(version_id), migration_id


async def migrate(marketing: Marketing, migration_id: UUID, *, size: int = migrating.PAGE) -> JourneyMigration:
    """Move everybody, and return what came of it."""
    over = False
    while not over:
        async with marketing.session() as session:
            over = await migrating.take_page(session, migration_id, size=size)
    async with marketing.session() as session:
        return await session.get_one(JourneyMigration, (marketing.tenant_id, migration_id))
