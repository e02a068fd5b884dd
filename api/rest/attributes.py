"""What attributes of people and organizations may hold."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import status
from pydantic import Field, StrictBool

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from journeys.attributes import AttributeType
from services.identity import attribute_definitions
from services.identity.attribute_definitions import Change, Definition, SubjectType

router = Router(prefix="/attributes", tags=["attributes"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]

Choices = Annotated[list[str] | None, Field(max_length=attribute_definitions.MAX_CHOICES)]
Bound = Annotated[float | None, Field(allow_inf_nan=False)]


class AttributeIn(Strict):
    """A definition of an attribute."""

    subject_type: SubjectType = "person"
    key: Annotated[str, Field(examples=["plan"])]
    """The attribute's name."""
    label: Name
    """What people read."""
    description: Annotated[str | None, Field(max_length=1000)] = None
    type: AttributeType
    choices: Choices = None
    """Of a `choice`: what is allowed; of a `list`: what its items may be, any text without."""
    minimum: Bound = None
    """Of a number; of a text its length in characters; of a list how many items."""
    maximum: Bound = None
    force: StrictBool = False
    """Define it though values that are there do not fit; they stay as they are."""

    def definition(self) -> Definition:
        """Return it as the service takes it."""
        return Definition(**self.model_dump(exclude={"force"}))


class AttributePatch(Strict):
    """What to change; a field left out stays as it is."""

    label: Name | None = None
    description: Annotated[str | None, Field(max_length=1000)] = None
    type: AttributeType | None = None
    choices: Choices = None
    minimum: Bound = None
    maximum: Bound = None
    force: StrictBool = False

    def change(self) -> Change:
        """Return it as the service takes it; a label and a type cannot be cleared."""
        given = self.model_dump(exclude={"force"}, exclude_unset=True)
        return Change(
            {name: value for name, value in given.items() if value is not None or name not in {"label", "type"}}
        )


class AttributeOut(Strict):
    """A definition."""

    id: UUID
    subject_type: SubjectType
    key: str
    label: str
    description: str | None
    type: AttributeType
    choices: list[Any] | None
    minimum: float | None
    maximum: float | None
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: AttributeIn, session: SessionDep, actor: ActorDep) -> AttributeOut:
    """Define an attribute: from now on its values are checked with every write.

    Where values are there that would not fit: 409 with their `count` and the ids of up to five that have them.
    """
    row = await attribute_definitions.create(session, body.definition(), force=body.force, by=actor)
    return AttributeOut.model_validate(row)


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    subject_type: SubjectType | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[AttributeOut]:
    """List definitions, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await attribute_definitions.page(session, subject_type=subject_type, limit=limit + 1, after=after)
    return Page(
        items=[AttributeOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{definition_id}", dependencies=READ)
async def get(definition_id: UUID, session: SessionDep) -> AttributeOut:
    """Return a definition."""
    return AttributeOut.model_validate(await attribute_definitions.get(session, definition_id))


@router.patch("/{definition_id}", dependencies=WRITE)
async def update(definition_id: UUID, body: AttributePatch, session: SessionDep, actor: ActorDep) -> AttributeOut:
    """Change a definition; values that would not fit are refused as when it is made."""
    row = await attribute_definitions.update(session, definition_id, body.change(), force=body.force, by=actor)
    return AttributeOut.model_validate(row)


@router.delete("/{definition_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(definition_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a definition; the values stay, and are free from now on."""
    await attribute_definitions.delete(session, definition_id, by=actor)
