"""Events that a consumer could not handle: seen, and handed to it again."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from api.dependencies import ActorDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.events import dead

router = Router(prefix="/dead-events", tags=["events"])


class ParkedEvent(BaseModel):
    """The event itself."""

    id: UUID
    type: str
    subject_type: str
    subject_id: UUID
    person_id: UUID | None
    properties: dict[str, Any]
    occurred_at: datetime


class DeadEvent(BaseModel):
    """An event set aside by one consumer; the other consumers are not concerned."""

    id: UUID
    consumer: str
    state: dead.State
    """`replaying` until the consumer has it again, which takes a moment; then `resolved`, or `parked` anew."""
    error: str
    attempts: int
    created_at: datetime
    replay_requested_at: datetime | None
    resolved_at: datetime | None
    event: ParkedEvent

    @classmethod
    def of(cls, parked: dead.Parked) -> Self:
        """Return what the caller sees of it."""
        return cls(
            id=parked.dead.id,
            consumer=parked.dead.consumer,
            state=parked.state,
            error=parked.dead.error,
            attempts=parked.dead.attempts,
            created_at=parked.dead.created_at,
            replay_requested_at=parked.dead.replay_requested_at,
            resolved_at=parked.dead.resolved_at,
            event=ParkedEvent.model_validate(parked.event, from_attributes=True),
        )


@router.get("", dependencies=[requires("events:read")])
async def list_dead_events(
    session: SessionDep,
    consumer: Annotated[str | None, Query(max_length=100)] = None,
    state: dead.State | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[DeadEvent]:
    """List them, the newest first."""
    before: UUID | None = decode_cursor(cursor, [UUID])[0] if cursor else None
    found = await dead.list_parked(session, limit=limit + 1, before=before, consumer=consumer, state=state)
    return Page[DeadEvent](
        items=[DeadEvent.of(item) for item in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].dead.id) if len(found) > limit else None,
    )


@router.get("/{dead_event_id}", dependencies=[requires("events:read")])
async def get_dead_event(dead_event_id: UUID, session: SessionDep) -> DeadEvent:
    """Return one."""
    return DeadEvent.of(await dead.get(session, dead_event_id))


@router.post("/{dead_event_id}/replay", status_code=202, dependencies=[requires("events:write")])
async def replay(dead_event_id: UUID, session: SessionDep, actor: ActorDep) -> DeadEvent:
    """Hand the event to its consumer again, before newer ones; see its `state` for how that went."""
    return DeadEvent.of(await dead.request_replay(session, dead_event_id, by=actor))
