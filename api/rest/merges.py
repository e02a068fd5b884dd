"""Merges: two people made one, listed, and taken back."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import status
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from models import PersonMerge
from services.identity import merging, unmerging

router = Router(prefix="/people", tags=["people"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


class MergeIn(Strict):
    """Who is to become whom."""

    winner_id: UUID
    """The person who stays, and keeps its own where both have something."""
    loser_id: UUID
    """The person whose id means the winner from then on."""


class MergeOut(Strict):
    """A merge."""

    id: UUID
    winner_id: UUID
    loser_id: UUID
    source: Literal["api", "anonymous", "duplicate"]
    counts: Annotated[dict[str, int], Field(examples=[{"event": 12, "person_identifier": 2}])]
    """Rows that were moved to the winner or dropped, by where they are kept."""
    merged_at: datetime
    undone_at: datetime | None

    @classmethod
    def of(cls, merged: PersonMerge) -> Self:
        """Return the answer for a merge."""
        own = {name: getattr(merged, name) for name in cls.model_fields if name != "merged_at"}
        return cls.model_validate({**own, "merged_at": merged.created_at})


@router.post("/merge", operation_id="people.merge", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def merge(body: MergeIn, session: SessionDep, actor: ActorDep) -> MergeOut:
    """Merge two people; all that names the loser names the winner from now on, running journeys too.

    The winner's empty fields are filled, and of two consents the stricter holds. 409 where both are the same person
    already, or would have too many identifiers. The merge can be taken back.
    """
    merged = await merging.merge(session, body.winner_id, body.loser_id, by=actor)
    await session.refresh(merged)
    return MergeOut.of(merged)


@router.get("/merges", dependencies=READ)
async def find(
    session: SessionDep,
    person_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[MergeOut]:
    """List merges, newest first; of a person, if one is named."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await merging.page(session, limit=limit + 1, before=before, person_id=person_id)
    return Page(
        items=[MergeOut.of(merged) for merged in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/merges/{merge_id}", dependencies=READ)
async def get(merge_id: UUID, session: SessionDep) -> MergeOut:
    """Return a merge."""
    return MergeOut.of(await merging.get(session, merge_id))


@router.post("/merges/{merge_id}/undo", dependencies=WRITE)
async def undo(merge_id: UUID, session: SessionDep, actor: ActorDep) -> MergeOut:
    """Take a merge back: the loser is there again with all that was its own; what came since stays with the winner.

    409 where it was taken back before, or the people were erased. An enrollment that the merge ended stays ended.
    """
    return MergeOut.of(await unmerging.undo(session, merge_id, by=actor))
