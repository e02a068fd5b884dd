"""The shelves of the shop."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query, status
from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from services.commerce import categories

router = Router(prefix="/categories", tags=["products"])

READ = [requires("products:read")]
WRITE = [requires("products:write")]

Position = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class CategoryIn(Strict):
    """A shelf of the shop."""

    key: Key
    name: Name
    parent_id: UUID | None = None
    """The category it stands below."""
    position: Position = 0
    """Among those beside it."""


class CategoryPatch(Strict):
    """What to change; a field left out stays, and a null `parent_id` brings it to the top."""

    key: Key | None = None
    name: Name | None = None
    parent_id: UUID | None = None
    position: Position | None = None


class CategoryOut(Strict):
    """A shelf of the shop."""

    id: UUID
    key: str
    name: str
    parent_id: UUID | None
    position: int
    created_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: CategoryIn, session: SessionDep, actor: ActorDep) -> CategoryOut:
    """Add a category; 409 where its key is taken."""
    return CategoryOut.model_validate(await categories.create(session, body.model_dump(), by=actor))


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    parent_id: UUID | None = None,
    key: Annotated[str | None, Query(max_length=63)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CategoryOut]:
    """List categories, oldest first: all, or with `parent_id` those directly below one."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await categories.page(session, parent_id=parent_id, key=key, limit=limit + 1, after=after)
    return Page(
        items=[CategoryOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{category_id}", dependencies=READ)
async def get(category_id: UUID, session: SessionDep) -> CategoryOut:
    """Return a category."""
    return CategoryOut.model_validate(await categories.get(session, category_id))


@router.patch("/{category_id}", dependencies=WRITE)
async def update(category_id: UUID, body: CategoryPatch, session: SessionDep, actor: ActorDep) -> CategoryOut:
    """Change a category; 409 where its key is taken, or it would stand below itself."""
    fields = body.model_dump(exclude_unset=True)
    for name in ("key", "name", "position"):
        if name in fields and fields[name] is None:
            raise InvalidError.of(name, "must not be null")
    return CategoryOut.model_validate(await categories.update(session, category_id, fields, by=actor))


@router.delete("/{category_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(category_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a category; its products stay. 409 while others are below it."""
    await categories.remove(session, category_id, by=actor)
