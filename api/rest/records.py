"""Records of a tenant's own objects."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.rest.objects import ObjectKey, ProblemOut, PropertyName
from api.routing import Router
from services.objects import records
from services.objects.judging import Item
from services.objects.records import MAX_BATCH

router = Router(prefix="/objects/{object_key}/records", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]


class RecordIn(Strict):
    """A record's properties."""

    properties: Annotated[dict[str, Any], Field(examples=[{"productName": "Widget X", "quantity": 100}])]


class RecordOut(Strict):
    """A record."""

    id: UUID
    object: str
    """The key of what it is one of."""
    properties: dict[str, Any]
    version: int
    """Of the object when the record was last written."""
    created_at: datetime
    updated_at: datetime


class BatchItem(Strict):
    """A record to make or to change."""

    id: UUID | None = None
    """Of a record that is there, to change it."""
    properties: dict[str, Any]


class BatchIn(Strict):
    """Records to make or to change, in this order; each is judged alone."""

    records: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]
    match: PropertyName | None = None
    """A unique property: the record that has an item's value of it is changed, and where none has, one is made."""


class RejectedOut(Strict):
    """An item that was not written."""

    index: int
    errors: list[ProblemOut]


class BatchOut(Strict):
    """What became of a batch: the counts and the rejected add up to its size."""

    created: int
    updated: int
    unchanged: int
    ids: list[UUID | None]
    """The record of each item, in their order; null where it was rejected."""
    rejected: list[RejectedOut]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(object_key: ObjectKey, body: RecordIn, session: SessionDep, actor: ActorDep) -> RecordOut:
    """Make a record."""
    return RecordOut.model_validate(await records.create(session, object_key, body.properties, by=actor))


@router.post("/batch", dependencies=WRITE)
async def write_batch(object_key: ObjectKey, body: BatchIn, session: SessionDep, actor: ActorDep) -> BatchOut:
    """Make and change many records; those refused are listed with the reasons, the others are written.

    An item changes the properties it names, as PATCH does, and leaves the others.
    """
    items = [Item(properties=item.properties, id=item.id) for item in body.records]
    done = await records.upsert(session, object_key, items, match=body.match, by=actor)
    return BatchOut(
        created=done.created,
        updated=done.updated,
        unchanged=done.unchanged,
        ids=list(done.ids),
        rejected=[
            RejectedOut(index=index, errors=[ProblemOut.model_validate(error) for error in errors])
            for index, errors in sorted(done.rejected.items())
        ],
    )


@router.get("/{record_id}", dependencies=READ)
async def get(object_key: ObjectKey, record_id: UUID, session: SessionDep) -> RecordOut:
    """Return a record."""
    return RecordOut.model_validate(await records.get(session, object_key, record_id))


@router.patch("/{record_id}", dependencies=WRITE)
async def change(
    object_key: ObjectKey, record_id: UUID, body: RecordIn, session: SessionDep, actor: ActorDep
) -> RecordOut:
    """Change some properties of a record, each as a whole; those not named stay.

    Null removes a property, unless the schema lets it be null: then it is null.
    """
    return RecordOut.model_validate(await records.change(session, object_key, record_id, body.properties, by=actor))


@router.put("/{record_id}", dependencies=WRITE)
async def replace(
    object_key: ObjectKey, record_id: UUID, body: RecordIn, session: SessionDep, actor: ActorDep
) -> RecordOut:
    """Give a record these properties and no others."""
    return RecordOut.model_validate(await records.replace(session, object_key, record_id, body.properties, by=actor))


@router.delete("/{record_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(object_key: ObjectKey, record_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a record, with its associations."""
    await records.delete(session, object_key, record_id, by=actor)
