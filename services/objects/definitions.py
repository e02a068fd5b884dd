"""The kinds of things that a tenant defines itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem
from core.ids import new_id
from models import ObjectDefinition, ObjectVersion
from services.objects import checking, removing
from services.objects.checking import Findings
from services.objects.entries import Kept, kept_of
from services.objects.held import find
from services.objects.shapes import ObjectShape, shape_of
from services.objects.wanted import Wanted
from services.shared import activity

MAX_OBJECTS: Final = 200
MAX_CHECKED: Final = 250_000
"""Records that are looked at while others wait to write theirs: some seconds."""

_STATE: Final = text("""
    SELECT md5(string_agg(d.id || ':' || d.updated_at, ',' ORDER BY d.id))
    FROM object_definition d WHERE d.tenant_id = :tenant
""")
_OF_RECORDS: Final = ("schema", "unique_properties", "indexed_properties")
"""A change of these is a new version."""


async def create(session: TenantSession, key: str, wanted: Wanted, *, by: Actor) -> ObjectDefinition:
    """Define a kind of record.

    Raises:
        InvalidError: there can be no such records; naming every field at fault.
        ConflictError: the key is taken, or there are too many objects.
    """
    wanted.check()
    number = await session.scalar(
        select(func.count()).select_from(ObjectDefinition).where(ObjectDefinition.tenant_id == session.tenant_id)
    )
    if (number or 0) >= MAX_OBJECTS:
        raise ConflictError(f"There can be at most {MAX_OBJECTS} objects.")
    row = await session.scalar(
        insert(ObjectDefinition)
        .values(tenant_id=session.tenant_id, id=new_id(), key=key, **wanted.columns())
        .on_conflict_do_nothing()
        .returning(ObjectDefinition)
    )
    if row is None:
        raise ConflictError(f"There is an object with the key {key} already.", errors=[FieldProblem("key", "is taken")])
    await _keep_version(session, row, by=by)
    changes = {name: (None, value) for name, value in {"key": key, **wanted.columns()}.items()}
    await _log(session, row, "object.created", changes, by=by)
    return row


async def check(session: TenantSession, key: str, wanted: Wanted) -> Findings:
    """Say what a change would mean for the records; changes nothing.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: there can be no such records; naming every field at fault.
        ConflictError: there are too many records to look at.
    """
    row = await get(session, key)
    wanted.check()
    return await _findings(session, row, wanted)


async def update(
    session: TenantSession, key: str, wanted: Wanted, *, force: bool = False, by: Actor
) -> ObjectDefinition:
    """Make an object what is wanted; where that is of its records, they are looked at first.

    `force` leaves records that do not fit as they are; their next change must make them fit. Nobody writes records of
    the object meanwhile.

    Raises:
        NotFoundError: no such object in this tenant.
        InvalidError: there can be no such records; naming every field at fault.
        ConflictError: records would fail and `force` is not given, several have the same value in a property that is
            to be unique, or there are too many to look at.
    """
    row = await find(session, key, lock="update")
    wanted.check()
    changes = {
        name: (getattr(row, name), value) for name, value in wanted.columns().items() if getattr(row, name) != value
    }
    if not changes:
        return row
    before = {one.property: one for one in _kept(row)}
    if changes.keys() & set(_OF_RECORDS):
        found = await _findings(session, row, wanted)
        _refuse(found, force=force)
        if _looks_at_schema(row, wanted):
            row.has_misfits = found.failing > 0
        row.version += 1
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    if changes.keys() & set(_OF_RECORDS):
        await _keep_version(session, row, by=by)
        await _refill(session, row.id, before, wanted.kept())
    await _log(session, row, "object.updated", changes, by=by)
    return row


async def delete(session: TenantSession, key: str, *, force: bool = False, by: Actor) -> int:
    """Drop an object; with `force` its records first, a page of them a call. Return how many records are left.

    Raises:
        NotFoundError: no such object in this tenant.
        ConflictError: it has records and `force` is not given.
    """
    row = await find(session, key, lock="update")
    number = await checking.count(session, row.id)
    if number and not force:
        raise ConflictError(
            f"{row.key} has {number} records; give force=true to delete them too.",
            errors=[FieldProblem("force", "is needed to delete an object with records")],
            extra={"records": number},
        )
    left = number - await removing.remove_page(session, row.id, row.key, by=by) if number else 0
    if left > 0:
        return left
    await session.delete(row)
    await session.flush()
    await _log(session, row, "object.deleted", {"key": (row.key, None)}, by=by)
    return 0


async def get(session: TenantSession, key: str) -> ObjectDefinition:
    """Return an object by its key, or by its id.

    Raises:
        NotFoundError: no such object in this tenant.
    """
    return await find(session, key)


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[ObjectDefinition]:
    """Return up to `limit` objects, oldest first, those made after `after` only."""
    statement = select(ObjectDefinition).where(ObjectDefinition.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(ObjectDefinition.id > after)
    return (await session.scalars(statement.order_by(ObjectDefinition.id).limit(limit))).all()


async def versions(
    session: TenantSession, object_id: UUID, *, limit: int, before: int | None
) -> Sequence[ObjectVersion]:
    """Return up to `limit` versions of an object, newest first, those older than number `before` only."""
    statement = select(ObjectVersion).where(
        ObjectVersion.tenant_id == session.tenant_id, ObjectVersion.object_id == object_id
    )
    if before is not None:
        statement = statement.where(ObjectVersion.number < before)
    return (await session.scalars(statement.order_by(ObjectVersion.number.desc()).limit(limit))).all()


async def known(session: TenantSession) -> dict[str, ObjectShape]:
    """Return every object of the tenant by its key, as conditions know it: what `record:KEY.x` may be and holds."""
    rows = await session.execute(
        select(ObjectDefinition.key, ObjectDefinition.id, ObjectDefinition.schema).where(
            ObjectDefinition.tenant_id == session.tenant_id
        )
    )
    return {key: shape_of(object_id, schema) for key, object_id, schema in rows}


async def state(session: TenantSession) -> str:
    """Return what is another text as soon as an object of the tenant is made, changed or dropped; "" without any."""
    return await session.scalar(_STATE, {"tenant": session.tenant_id}) or ""


async def all_of_tenant(session: TenantSession) -> Sequence[ObjectDefinition]:
    """Return every object, oldest first; there are at most `MAX_OBJECTS`."""
    return await page(session, limit=MAX_OBJECTS, after=None)


def _kept(row: ObjectDefinition) -> tuple[Kept, ...]:
    return kept_of(row.schema, row.unique_properties, row.indexed_properties)


def _looks_at_schema(row: ObjectDefinition, wanted: Wanted) -> bool:
    return row.has_misfits or row.schema != wanted.schema


async def _findings(session: TenantSession, row: ObjectDefinition, wanted: Wanted) -> Findings:
    unique = set(wanted.unique) - set(row.unique_properties)
    refilled = set(wanted.kept()) - set(_kept(row))
    schema = wanted.schema if _looks_at_schema(row, wanted) else None
    if schema is not None or unique or refilled:
        number = await checking.count(session, row.id)
        if number > MAX_CHECKED:
            raise ConflictError(
                f"{row.key} has {number} records; a change is checked against {MAX_CHECKED} at most.",
                errors=[FieldProblem("schema", f"cannot change with more than {MAX_CHECKED} records")],
                extra={"records": number},
            )
    return await checking.findings(session, row.id, schema=schema, unique=sorted(unique))


async def _refill(session: TenantSession, object_id: UUID, before: Mapping[str, Kept], wanted: Sequence[Kept]) -> None:
    changed = [one for one in wanted if before.get(one.property) != one]
    gone = before.keys() - {one.property for one in wanted}
    dropped = {one.property for one in changed if one.property in before} | gone
    await checking.refill(session, object_id, dropped=dropped, kept=changed)


def _refuse(found: Findings, *, force: bool) -> None:
    if found.collisions:
        names = sorted({one.property for one in found.collisions})
        raise ConflictError(
            f"Several records have the same value in {', '.join(names)}, which could not be unique.",
            errors=[FieldProblem("unique", f"{name} has the same value in several records") for name in names],
            extra=as_json(found),
        )
    if found.failing and not force:
        raise ConflictError(
            f"{found.failing} of {found.records} records would not fit; give force: true to leave them as they are.",
            errors=[FieldProblem("schema", f"does not fit {found.failing} records that are there")],
            extra=as_json(found),
        )


def as_json(found: Findings) -> dict[str, Any]:
    """Return findings as JSON values."""
    return {
        "records": found.records,
        "failing": found.failing,
        "samples": [
            {"id": str(one.id), "problems": [asdict(problem) for problem in one.problems]} for one in found.samples
        ],
        "collisions": [
            {"property": one.property, "value": one.value, "records": one.records, "ids": [str(id_) for id_ in one.ids]}
            for one in found.collisions
        ],
    }


async def _keep_version(session: TenantSession, row: ObjectDefinition, *, by: Actor) -> None:
    session.add(
        ObjectVersion(
            tenant_id=session.tenant_id,
            object_id=row.id,
            number=row.version,
            schema=row.schema,
            unique_properties=row.unique_properties,
            indexed_properties=row.indexed_properties,
            created_by=by.name,
        )
    )
    await session.flush()


async def _log(
    session: TenantSession, row: ObjectDefinition, verb: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(session, by=by, subject_type="object", subject_id=row.id, type=verb, changes=changes)
