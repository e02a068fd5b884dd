"""Who wants to hear that a variant is back in stock, or costs less."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, status

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.commerce import variants, watching

router = Router(tags=["products"])

READ = [requires("products:read"), requires("people:read")]
WRITE = [requires("products:read"), requires("people:write")]

Kind = Literal["stock", "price"]


class WatchIn(Strict):
    """Who is to hear of what."""

    person_id: UUID
    kind: Kind
    """`stock`: once, that it can be had again. `price`: each time that it costs less."""


class WatchOut(Strict):
    """Somebody who wants to hear of a variant."""

    variant_id: UUID
    person_id: UUID
    kind: Kind
    created_at: datetime


@router.post("/variants/{variant_id}/watches", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def watch(variant_id: UUID, body: WatchIn, session: SessionDep, actor: ActorDep) -> WatchOut:
    """Have a person hear of a variant; asked for twice it is one watch."""
    made = await watching.watch(session, body.person_id, variant_id, body.kind, by=actor)
    return WatchOut.model_validate(made)


@router.get("/variants/{variant_id}/watches", dependencies=READ)
async def list_of_variant(
    variant_id: UUID,
    session: SessionDep,
    kind: Annotated[Kind | None, Query()] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[WatchOut]:
    """List who wants to hear of a variant."""
    await variants.get(session, variant_id)
    after = None if cursor is None else decode_cursor(cursor, [str, UUID])
    found = await watching.of_variant(
        session, variant_id, kind=kind, limit=limit + 1, after=None if after is None else (after[0], after[1])
    )
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        items=[WatchOut.model_validate(row) for row in found[:limit]],
        next_cursor=None if last is None else encode_cursor(last.kind, last.person_id),
    )


@router.delete(
    "/variants/{variant_id}/watches/{watch_kind}/{person_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    dependencies=WRITE,
)
async def unwatch(variant_id: UUID, watch_kind: Kind, person_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Have a person not hear of a variant any more."""
    await watching.unwatch(session, person_id, variant_id, watch_kind, by=actor)


@router.get("/people/{person_id}/watches", dependencies=READ)
async def list_of_person(person_id: UUID, session: SessionDep) -> Page[WatchOut]:
    """List what a person wants to hear of; few enough for one page."""
    return Page(items=[WatchOut.model_validate(row) for row in await watching.of_person(session, person_id)])
