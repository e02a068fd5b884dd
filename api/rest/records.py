"""Records of a tenant's own objects."""

from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Query, Response, status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.hot import Caller, as_json, caller
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, decode_entry, encode_cursor
from api.rest.objects import ObjectKey, ObjectProblemOut, PropertyName
from api.routing import Router
from core.errors import InvalidError
from services.objects import history, listing, records
from services.objects.judging import Item
from services.objects.listing import Place
from services.objects.plans import Connection
from services.objects.records import MAX_BATCH

router = Router(prefix="/objects/{object_key}/records", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]
Reader = Annotated[Caller, caller("objects:read")]
LongCursor = Annotated[str | None, Query(max_length=4_000, description="`next_cursor` of the page before")]
"""Long, as it holds what the records are sorted by."""


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
    errors: list[ObjectProblemOut]


class RecordBatchOut(Strict):
    """What became of a batch: the counts and the rejected add up to its size."""

    created: int
    updated: int
    unchanged: int
    ids: list[UUID | None]
    """The record of each item, in their order; null where it was rejected."""
    rejected: list[RejectedOut]


class RecordEntryOut(Strict):
    """One thing that happened to a record."""

    id: UUID
    at: datetime
    kind: str
    """`activity` or `event`: where it is kept."""
    type: str
    detail: dict[str, Any]
    """Of an activity `actor`, `changes` and `request_id`, of an event its `properties`."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(object_key: ObjectKey, body: RecordIn, session: SessionDep, actor: ActorDep) -> RecordOut:
    """Make a record."""
    return RecordOut.model_validate(await records.create(session, object_key, body.properties, by=actor))


@router.get("", response_model=Page[RecordOut])
async def find(
    object_key: ObjectKey,
    caller: Reader,
    filter: Annotated[  # noqa: A002 - the field's name
        str | None,
        Query(
            max_length=20_000,
            description="A condition tree as JSON, its fields being `record:KEY.PROPERTY`",
            examples=['{"field": "record:product_request.quantity", "op": ">", "value": 10}'],
        ),
    ] = None,
    sort: Annotated[
        str,
        Query(
            min_length=1,
            max_length=101,
            description="`id` (oldest first), `created_at`, `updated_at` or an indexed property; behind `-` downwards",
        ),
    ] = "id",
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: LongCursor = None,
) -> Response:
    """List the records of an object that a filter lets through.

    Records without the property that is sorted by come last, either way. Where a filter asks what no index answers, a
    page may hold fewer records than `limit`: go on while there is a `next_cursor`.
    """
    async with caller.reading() as connection:
        reader = cast("Connection", connection)
        return as_json(
            await page_of(
                reader, caller.tenant_id, object_key, filter_text=filter, sort=sort, limit=limit, cursor=cursor
            )
        )


async def page_of(
    connection: Connection,
    tenant_id: UUID,
    key: str,
    *,
    filter_text: str | None,
    sort: str,
    limit: int,
    cursor: str | None,
) -> Page[RecordOut]:
    """Return a page of an object's records."""
    start = listing.START if cursor is None else _place(cursor, sort)
    found = await listing.page(connection, tenant_id, key, filter_text=filter_text, sort=sort, limit=limit, start=start)
    return Page[RecordOut](
        items=[RecordOut.model_validate(record) for record in found.records],
        next_cursor=None if found.next is None else _cursor(found.next, sort),
    )


@router.post("/batch", dependencies=WRITE)
async def write_batch(object_key: ObjectKey, body: BatchIn, session: SessionDep, actor: ActorDep) -> RecordBatchOut:
    """Make and change many records; those refused are listed with the reasons, the others are written.

    An item changes the properties it names, as PATCH does, and leaves the others.
    """
    items = [Item(properties=item.properties, id=item.id) for item in body.records]
    done = await records.upsert(session, object_key, items, match=body.match, by=actor)
    return RecordBatchOut(
        created=done.created,
        updated=done.updated,
        unchanged=done.unchanged,
        ids=list(done.ids),
        rejected=[
            RejectedOut(index=index, errors=[ObjectProblemOut.model_validate(error) for error in errors])
            for index, errors in sorted(done.rejected.items())
        ],
    )


@router.get("/{record_id}", dependencies=READ)
async def get(object_key: ObjectKey, record_id: UUID, session: SessionDep) -> RecordOut:
    """Return a record."""
    return RecordOut.model_validate(await records.get(session, object_key, record_id))


@router.get("/{record_id}/timeline", dependencies=READ)
async def get_timeline(
    object_key: ObjectKey,
    record_id: UUID,
    session: SessionDep,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[RecordEntryOut]:
    """List what happened to a record, newest first: its changes, and other events about it."""
    before = history.START if cursor is None else decode_entry(cursor)
    await records.get(session, object_key, record_id)
    entries = await history.page(session, record_id, limit=limit + 1, before=before)
    return Page(
        items=[RecordEntryOut.model_validate(entry) for entry in entries[:limit]],
        next_cursor=encode_cursor(entries[limit - 1].at, entries[limit - 1].id) if len(entries) > limit else None,
    )


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


def _cursor(place: Place, sort: str) -> str:
    return encode_cursor(sort, place.phase, place.value or "", place.id or "")


def _place(cursor: str, sort: str) -> Place:
    of_sort, phase, value, record_id = decode_cursor(cursor, [str, int, str, str])
    try:
        place = Place(phase, value or None, UUID(record_id) if record_id else None)
        if of_sort == sort and listing.is_place(place, sort):
            return place
    except ValueError:
        pass
    raise InvalidError.of("cursor", "is not a cursor of this list")
