"""The kinds of things that a tenant defines itself."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query, Response, status
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field, StrictBool

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.objects import definitions
from services.objects.wanted import MAX_INDEXED, MAX_UNIQUE, Wanted

router = Router(prefix="/objects", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]

ObjectKey = Annotated[str, Path(max_length=64, description="The object's key, or its id", examples=["product_request"])]
PropertyName = Annotated[str, Field(min_length=1, max_length=100)]
JsonSchema = Annotated[
    dict[str, Any],
    Field(
        alias="schema",
        description="JSON Schema 2020-12 of a record's properties",
        examples=[{"type": "object", "properties": {"urgency": {"enum": ["low", "high"]}}}],
    ),
]


class ObjectBody(Strict):
    """A definition, but for its key."""

    name: Name
    description: Annotated[str | None, Field(max_length=2000)] = None
    json_schema: JsonSchema
    unique: Annotated[list[PropertyName], Field(max_length=MAX_UNIQUE, default_factory=list[str])]
    """Properties of which no two records have the same value."""
    indexed: Annotated[list[PropertyName], Field(max_length=MAX_INDEXED, default_factory=list[str])]
    """Properties to sort by, and to filter by range, off an index."""
    label_property: PropertyName | None = None
    """What a record is called by where people read it."""

    def wanted(self) -> Wanted:
        """Return the definition as the service takes it."""
        return Wanted(
            name=self.name,
            description=self.description,
            schema=self.json_schema,
            unique=self.unique,
            indexed=self.indexed,
            label_property=self.label_property,
        )


class ObjectIn(ObjectBody):
    """A kind of record to define."""

    key: Key


class ObjectPut(ObjectBody):
    """What a definition is to be; its key stays."""

    force: StrictBool = False
    """Leave records that do not fit as they are."""


class ObjectOut(Strict):
    """A kind of record."""

    model_config = ConfigDict(extra="forbid", from_attributes=True, validate_by_name=True, validate_by_alias=True)

    id: UUID
    key: str
    name: str
    description: str | None
    json_schema: JsonSchema
    unique: Annotated[list[str], Field(validation_alias="unique_properties")]
    indexed: Annotated[list[str], Field(validation_alias="indexed_properties")]
    label_property: str | None
    version: int
    has_misfits: bool
    """Whether records may be there that do not fit the schema, as a change of it was forced."""
    created_at: datetime
    updated_at: datetime


class VersionOut(Strict):
    """A definition as it was once."""

    number: int
    json_schema: JsonSchema
    unique: Annotated[list[str], Field(validation_alias="unique_properties")]
    indexed: Annotated[list[str], Field(validation_alias="indexed_properties")]
    created_by: str
    created_at: datetime


class ObjectProblemOut(Strict):
    """A field and what is wrong with it."""

    field: str
    reason: str


class MisfitOut(Strict):
    """A record that would not fit, and why."""

    id: UUID
    problems: list[ObjectProblemOut]


class CollisionOut(Strict):
    """A value that several records have in a property that is to be unique."""

    property: str
    value: Any
    records: int
    ids: list[UUID]
    """The first of them, ten at most."""


class FindingsOut(Strict):
    """What a change of a definition would mean for the records."""

    records: int
    failing: int
    samples: list[MisfitOut]
    """The first that would fail, ten at most."""
    collisions: list[CollisionOut]
    """Values that would not be unique; of each property ten at most. Such a change cannot be forced."""


class LeftOut(Strict):
    """How many records are to be deleted yet; send the same request again."""

    remaining: int


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: ObjectIn, session: SessionDep, actor: ActorDep) -> ObjectOut:
    """Define a kind of record."""
    return ObjectOut.model_validate(await definitions.create(session, body.key, body.wanted(), by=actor))


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[ObjectOut]:
    """List the kinds of records, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await definitions.page(session, limit=limit + 1, after=after)
    return Page(
        items=[ObjectOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{object_key}", dependencies=READ)
async def get(object_key: ObjectKey, session: SessionDep) -> ObjectOut:
    """Return a kind of record."""
    return ObjectOut.model_validate(await definitions.get(session, object_key))


@router.put("/{object_key}", dependencies=WRITE)
async def update(object_key: ObjectKey, body: ObjectPut, session: SessionDep, actor: ActorDep) -> ObjectOut:
    """Replace a definition.

    A change of the schema is checked against every record first. Where some would not fit the answer is 409 with their
    number and the first of them, and nothing has changed; `force` leaves those as they are, until they are written
    again.
    """
    row = await definitions.update(session, object_key, body.wanted(), force=body.force, by=actor)
    return ObjectOut.model_validate(row)


@router.post("/{object_key}/check", dependencies=READ)
async def check(object_key: ObjectKey, body: ObjectPut, session: SessionDep) -> FindingsOut:
    """Say what replacing a definition would mean for the records; changes nothing."""
    found = await definitions.check(session, object_key, body.wanted())
    return FindingsOut.model_validate(definitions.as_json(found))


@router.get("/{object_key}/versions", dependencies=READ)
async def versions(
    object_key: ObjectKey, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[VersionOut]:
    """List what a definition was, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [int])[0]
    row = await definitions.get(session, object_key)
    found = await definitions.versions(session, row.id, limit=limit + 1, before=before)
    return Page(
        items=[VersionOut.model_validate(version) for version in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].number) if len(found) > limit else None,
    )


@router.delete(
    "/{object_key}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=WRITE,
    responses={202: {"model": LeftOut, "description": "Some records are deleted, and not all: send it again"}},
)
async def delete(
    object_key: ObjectKey,
    session: SessionDep,
    actor: ActorDep,
    force: Annotated[bool, Query(description="Delete the records too, some thousands a call")] = False,  # noqa: FBT002 - a query
) -> Response:
    """Drop a definition; 409 while it has records, unless `force`.

    With `force` its records are deleted first. Of very many, some are deleted and the answer is 202 with the number
    that remain; send the same request until it is 204.
    """
    remaining = await definitions.delete(session, object_key, force=force, by=actor)
    if remaining:
        return JSONResponse({"remaining": remaining}, status.HTTP_202_ACCEPTED)
    return Response(status_code=status.HTTP_204_NO_CONTENT)
