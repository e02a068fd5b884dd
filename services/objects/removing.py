"""Deleting records: one, or a page of all that an object has."""

from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from services.objects import associations
from services.objects.telling import Change, tell

PAGE: Final = 5_000

_HOLD: Final = text("""
    SELECT d.id FROM record d
    WHERE d.tenant_id = :tenant AND d.object_id = :object AND (d.id = :id OR CAST(:id AS uuid) IS NULL)
    ORDER BY d.id LIMIT :limit FOR UPDATE
""").bindparams(bindparam("object", type_=Uuid), bindparam("id", type_=Uuid))
_REMOVE: Final = (
    text("DELETE FROM record r WHERE r.tenant_id = :tenant AND r.id = ANY(:ids) RETURNING r.id, r.properties")
    .bindparams(bindparam("ids", type_=ARRAY(Uuid)))
    .columns(id=Uuid, properties=JSONB)
)


async def remove(session: TenantSession, object_id: UUID, key: str, record_id: UUID, *, by: Actor) -> None:
    """Delete a record, with its associations.

    Raises:
        NotFoundError: the object has no such record.
    """
    if not await _remove(session, object_id, key, record_id, 1, by=by):
        raise NotFoundError("No such record.")


async def remove_page(session: TenantSession, object_id: UUID, key: str, *, by: Actor) -> int:
    """Delete an object's oldest records, with their associations, `PAGE` at most; return how many."""
    return await _remove(session, object_id, key, None, PAGE, by=by)


async def _remove(
    session: TenantSession, object_id: UUID, key: str, record_id: UUID | None, limit: int, *, by: Actor
) -> int:
    held = await session.scalars(
        _HOLD, {"tenant": session.tenant_id, "object": object_id, "id": record_id, "limit": limit}
    )
    ids = list(held)
    if not ids:
        return 0
    await associations.unlink_all(session, "record", *ids, by=by)
    rows = await session.execute(_REMOVE, {"tenant": session.tenant_id, "ids": ids})
    changes = sorted((Change(row.id, row.properties, None) for row in rows), key=lambda change: change.id)
    await tell(session, changes, object_id=object_id, key=key, by=by)
    return len(changes)
