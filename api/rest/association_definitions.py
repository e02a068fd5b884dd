"""What labels of associations link, and how many."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.objects import association_definitions
from services.objects.association_definitions import Cardinality

router = Router(prefix="/association-definitions", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]

Side = Annotated[str, Field(max_length=100, examples=["person", "record:product_request"])]
"""`person`, `organization`, `order`, or `record:KEY` with the key of an object."""
Description = Annotated[str | None, Field(max_length=1000)]


class AssociationDefinitionIn(Strict):
    """A label, and what it links."""

    label: Key
    inverse_label: Key | None = None
    """What it is called seen from `to`."""
    from_type: Side
    to_type: Side
    cardinality: Cardinality = "many_to_many"
    """How many of `from` there are to a `to`: by `one_to_many` a `to` has one `from`, a `from` any number of `to`."""
    description: Description = None


class AssociationDefinitionPatch(Strict):
    """What to change; a field left out stays, null clears the inverse label and the description alone."""

    inverse_label: Key | None = None
    from_type: Side | None = None
    to_type: Side | None = None
    cardinality: Cardinality | None = None
    description: Description = None

    def changes(self) -> dict[str, Any]:
        """Return what was given."""
        clearable = {"inverse_label", "description"}
        given = self.model_dump(exclude_unset=True)
        return {name: value for name, value in given.items() if value is not None or name in clearable}


class AssociationDefinitionOut(Strict):
    """A definition."""

    id: UUID
    label: str
    inverse_label: str | None
    from_type: str
    to_type: str
    cardinality: Cardinality
    description: str | None
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: AssociationDefinitionIn, session: SessionDep, actor: ActorDep) -> AssociationDefinitionOut:
    """Define a label; what is linked by it already must be so.

    409 where it is not: `count` says how many break the definition, `samples` names some.
    """
    return AssociationDefinitionOut.model_validate(
        await association_definitions.create(session, body.model_dump(), by=actor)
    )


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[AssociationDefinitionOut]:
    """List definitions, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await association_definitions.page(session, limit=limit + 1, after=after)
    return Page(
        items=[AssociationDefinitionOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{association_definition_id}", dependencies=READ)
async def get(association_definition_id: UUID, session: SessionDep) -> AssociationDefinitionOut:
    """Return a definition."""
    return AssociationDefinitionOut.model_validate(
        await association_definitions.get(session, association_definition_id)
    )


@router.patch("/{association_definition_id}", dependencies=WRITE)
async def update(
    association_definition_id: UUID, body: AssociationDefinitionPatch, session: SessionDep, actor: ActorDep
) -> AssociationDefinitionOut:
    """Change a definition; 409 as for a new one, and nothing is changed then."""
    row = await association_definitions.update(session, association_definition_id, body.changes(), by=actor)
    return AssociationDefinitionOut.model_validate(row)


@router.delete("/{association_definition_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(association_definition_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a definition; what is linked stays."""
    await association_definitions.delete(session, association_definition_id, by=actor)
