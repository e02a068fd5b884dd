"""Calls of others' addresses that journeys made, and how they were answered."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.crm import calls

router = Router(prefix="/outgoing-calls", tags=["journeys"])

READ = [requires("journeys:read")]
WRITE = [requires("journeys:write")]

Status = Literal["pending", "delivered", "failed"]


class CallOut(Strict):
    """A call."""

    id: UUID
    """The header `webhook-id` of all its attempts."""
    url: str
    body: dict[str, Any]
    person_id: UUID | None
    status: Status
    attempts: int
    next_at: datetime
    """Of a pending one: when it is made again at the earliest."""
    answer: dict[str, Any] | None
    """Of the last attempt: `status` and the beginning of `body`, or `error`."""
    source_key: str
    """What made it: `journey:ENROLLMENT:NODE:VISIT`."""
    created_at: datetime
    finished_at: datetime | None


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, status: Status | None = None, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[CallOut]:
    """List calls, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await calls.page(session, status=status, limit=limit + 1, before=before)
    return Page(
        items=[CallOut.model_validate(call) for call in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{call_id}", dependencies=READ)
async def get(call_id: UUID, session: SessionDep) -> CallOut:
    """Return a call."""
    return CallOut.model_validate(await calls.get(session, call_id))


@router.post("/{call_id}/retry", dependencies=WRITE)
async def retry(call_id: UUID, session: SessionDep, actor: ActorDep) -> CallOut:
    """Have a call that was given up made again, with all its attempts."""
    return CallOut.model_validate(await calls.retry(session, call_id, by=actor))
