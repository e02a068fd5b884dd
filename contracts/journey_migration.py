"""What crosses between a journey's migration and its activities: ids and counts, never a person."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW: Final = "journey_migration"

MIGRATE: Final = "migrate_journey"
FAIL: Final = "fail_journey_migration"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class MigrationRef(Contract):
    """Which migration."""

    tenant_id: UUID
    migration_id: UUID


class MigrationProgress(Contract):
    """How far it has come."""

    done: bool


class MigrationFailure(Contract):
    """Why it cannot go on, as a code: the text of an error may hold people's data."""

    ref: MigrationRef
    error: str
