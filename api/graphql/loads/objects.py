"""Objects, their records, and what is linked to what, many at once."""

from collections.abc import Collection, Sequence
from uuid import UUID

from api.rest.associations import ListedOut
from api.rest.objects import ObjectOut
from api.rest.records import RecordOut
from core.database import TenantSession
from models import ObjectDefinition
from services.objects import associations as association_service
from services.objects import records as record_service
from services.objects.associations import Position
from services.shared.many import by_ids


async def objects(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, ObjectOut]:
    """Return kinds of records by their ids."""
    return {key: ObjectOut.model_validate(row) for key, row in (await by_ids(session, ObjectDefinition, ids)).items()}


async def records(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, RecordOut]:
    """Return records by their ids."""
    found = await record_service.of_many(session, ids)
    return {key: RecordOut.model_validate(each) for key, each in found.items()}


async def associations(
    session: TenantSession, ends: Sequence[str], limit: int, after: Position | None, label: str | None
) -> dict[str, list[ListedOut]]:
    """Return by end, as `type:id`, what it is linked to."""
    found = await association_service.pages(session, ends, limit, after, label)
    return {end: [ListedOut.seen(each) for each in listed] for end, listed in found.items()}
