"""Records of a tenant's own objects."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from models import ObjectDefinition, Record
from services.objects import held as definitions
from services.objects import removing, writing
from services.objects.held import Held
from services.objects.judging import Item, Refusal

MAX_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as it is shown."""

    id: UUID
    object: str
    """The key of what it is one of."""
    properties: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of many items."""

    created: int
    updated: int
    unchanged: int
    ids: Sequence[UUID | None]
    """The record of each item, in their order; None where it was refused."""
    rejected: Mapping[int, Sequence[FieldProblem]]
    """Why, by the item's place."""


async def create(session: TenantSession, key: str, properties: Mapping[str, Any], *, by: Actor) -> Shown:
    """Make a record of the object `key`.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: the properties do not fit its schema; naming each as `properties.NAME`.
        ConflictError: another record has the value of a unique property.
    """
    return await _write(session, key, Item(properties=properties, whole=True), by=by)


async def change(
    session: TenantSession, key: str, record_id: UUID, properties: Mapping[str, Any], *, by: Actor
) -> Shown:
    """Change some properties of a record; null removes one, unless it may be null by the schema: then it is null.

    Raises:
        NotFoundError: no such record.
        InvalidError: the record would not fit its schema; naming each as `properties.NAME`.
        ConflictError: another record has the value of a unique property.
    """
    return await _write(session, key, Item(properties=properties, id=record_id), by=by)


async def replace(
    session: TenantSession, key: str, record_id: UUID, properties: Mapping[str, Any], *, by: Actor
) -> Shown:
    """Give a record these properties and no others.

    Raises:
        NotFoundError: no such record.
        InvalidError: the properties do not fit its schema; naming each as `properties.NAME`.
        ConflictError: another record has the value of a unique property.
    """
    return await _write(session, key, Item(properties=properties, id=record_id, whole=True), by=by)


async def upsert(
    session: TenantSession, key: str, items: Sequence[Item], *, match: str | None = None, by: Actor
) -> Batch:
    """Write many records, each judged alone, in their order; a few statements whatever their number.

    An item with an id changes that record. One without changes the record that has its value of the unique property
    `match`, or makes one; without `match` it always makes one. Changing is as in `change`.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: `match` is not a unique property.
    """
    held = await definitions.hold(session, key)
    if match is not None and match not in held.rules.unique:
        raise InvalidError.of("match", f"{match[:100]} is not a unique property of {held.key}")
    judged = await writing.write(session, held, items, match=match, by=by)
    return Batch(
        judged.created,
        judged.updated,
        judged.unchanged,
        judged.ids,
        {index: refusal.errors for index, refusal in judged.refused.items()},
    )


async def delete(session: TenantSession, key: str, record_id: UUID, *, by: Actor) -> None:
    """Delete a record, with its associations.

    Raises:
        NotFoundError: no such record.
    """
    row = await definitions.find(session, key)
    await removing.remove(session, row.id, row.key, record_id, by=by)


async def get(session: TenantSession, key: str, record_id: UUID) -> Shown:
    """Return a record.

    Raises:
        NotFoundError: no such record.
    """
    row = await definitions.find(session, key)
    return await _shown(session, row.id, row.key, record_id)


async def of_many(session: TenantSession, record_ids: Collection[UUID]) -> dict[UUID, Shown]:
    """Return those of the records that there are, of whatever object, by their ids."""
    rows = await session.execute(
        select(Record, ObjectDefinition.key)
        .join(
            ObjectDefinition,
            (ObjectDefinition.tenant_id == Record.tenant_id) & (ObjectDefinition.id == Record.object_id),
        )
        .where(
            Record.tenant_id == session.tenant_id,
            ObjectDefinition.tenant_id == session.tenant_id,
            Record.id.in_(sorted(set(record_ids))),
        )
    )
    return {
        row.id: Shown(row.id, key, row.properties, row.version, row.created_at, row.updated_at) for row, key in rows
    }


async def _write(session: TenantSession, key: str, item: Item, *, by: Actor) -> Shown:
    held = await definitions.hold(session, key)
    judged = await writing.write(session, held, [item], by=by)
    if judged.refused:
        raise _error(held, judged.refused[0])
    (record_id,) = judged.ids
    if record_id is None:
        raise NotFoundError("No such record.")
    return await _shown(session, held.id, held.key, record_id)


def _error(held: Held, refusal: Refusal) -> InvalidError | ConflictError | NotFoundError:
    if refusal.missing:
        return NotFoundError("No such record.")
    problems = refusal.errors
    if refusal.conflict is not None:
        name, holder = refusal.conflict
        return ConflictError(
            f"Another {held.key} has this {name}.",
            errors=problems,
            extra={"property": name, "record_id": str(holder)},
        )
    return InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def _shown(session: TenantSession, object_id: UUID, key: str, record_id: UUID) -> Shown:
    row = (
        await session.execute(
            select(Record.id, Record.properties, Record.version, Record.created_at, Record.updated_at).where(
                Record.tenant_id == session.tenant_id, Record.id == record_id, Record.object_id == object_id
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError("No such record.")
    return Shown(row.id, key, row.properties, row.version, row.created_at, row.updated_at)
