"""What a teammate is told: the notifications of who is signed in."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from api.dependencies import SessionDep, SignedInDep
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import InvalidError
from services.crm import notifications

router = Router(prefix="/me/notifications", tags=["users"])


class NotificationOut(Strict):
    """A line to read."""

    id: UUID
    title: str
    body: str | None
    person_id: UUID | None
    deal_id: UUID | None
    created_at: datetime
    read_at: datetime | None


class Notifications(Page[NotificationOut]):
    """A page of them, newest first."""

    unread: int
    """How many of all were not read yet."""


class ReadIn(Strict):
    """Which were read."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=200)] | None = None
    all: bool = False
    """All there are, instead of `ids`."""


class ReadOut(Strict):
    """What became of it."""

    read: int
    """How many had not been read before."""


@router.get("")
async def find(
    session: SessionDep,
    signed_in: SignedInDep,
    unread: bool = False,  # noqa: FBT001, FBT002 - a query parameter
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Notifications:
    """List one's notifications, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await notifications.of_user(session, signed_in.user_id, unread=unread, limit=limit + 1, before=before)
    return Notifications(
        items=[NotificationOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
        unread=await notifications.unread_count(session, signed_in.user_id),
    )


@router.post("/read")
async def read(body: ReadIn, session: SessionDep, signed_in: SignedInDep) -> ReadOut:
    """Say that one has read some of them, or all."""
    if body.all == (body.ids is not None):
        raise InvalidError.of("ids", "is needed, or all as true")
    return ReadOut(read=await notifications.mark_read(session, signed_in.user_id, body.ids))
