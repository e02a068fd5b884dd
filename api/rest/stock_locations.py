"""The places that pieces lie in."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import status
from pydantic import Field, StrictBool, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.commerce import locations

router = Router(prefix="/stock-locations", tags=["inventory"])

READ = [requires("inventory:read")]
WRITE = [requires("inventory:write")]

Position = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class LocationIn(Strict):
    """A place that pieces lie in."""

    key: Key
    name: Name
    position: Position = 0
    """Pieces are taken from the first place that has enough."""
    active: StrictBool = True
    """Whether pieces there are sold."""


class LocationPatch(Strict):
    """What to change; a field left out, or null, stays as it is."""

    key: Key | None = None
    name: Name | None = None
    position: Position | None = None
    active: StrictBool | None = None


class LocationOut(Strict):
    """A place that pieces lie in."""

    id: UUID
    key: str
    name: str
    position: int
    active: bool
    created_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: LocationIn, session: SessionDep, actor: ActorDep) -> LocationOut:
    """Add a location; 409 where its key is taken."""
    return LocationOut.model_validate(await locations.create(session, body.model_dump(), by=actor))


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[LocationOut]:
    """List locations, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await locations.page(session, limit=limit + 1, after=after)
    return Page(
        items=[LocationOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{location_id}", dependencies=READ)
async def get(location_id: UUID, session: SessionDep) -> LocationOut:
    """Return a location."""
    return LocationOut.model_validate(await locations.get(session, location_id))


@router.patch("/{location_id}", dependencies=WRITE)
async def update(location_id: UUID, body: LocationPatch, session: SessionDep, actor: ActorDep) -> LocationOut:
    """Change a location; pieces in one that is not active are not sold."""
    fields = body.model_dump(exclude_none=True)
    return LocationOut.model_validate(await locations.update(session, location_id, fields, by=actor))


@router.delete("/{location_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(location_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a location; 409 where its ledger has entries: set `active` to false instead."""
    await locations.remove(session, location_id, by=actor)
