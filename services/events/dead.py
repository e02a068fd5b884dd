"""Events that a consumer could not handle: parked, listed, and handed to it again on request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import Select, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_ids
from models import DeadEvent, Event
from services.events.bus import EventRow
from services.shared import activity

MAX_ERROR: Final = 2_000
"""Characters of an error that are kept."""

State = Literal["parked", "replaying", "resolved"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A parked event that is to be handled again."""

    id: UUID
    tenant_id: UUID
    event: EventRow


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked event as people see it."""

    dead: DeadEvent
    event: Event

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.dead.resolved_at is not None:
            return "resolved"
        return "parked" if self.dead.replay_requested_at is None else "replaying"


_PARK: Final = text("""
    INSERT INTO dead_event (tenant_id, id, consumer, event_id, error)
    SELECT :tenant AS tenant_id, d.id, :consumer, d.event_id, d.error
    FROM unnest(CAST(:ids AS uuid[]), CAST(:event_ids AS uuid[]), CAST(:errors AS text[])) AS d(id, event_id, error)
    ON CONFLICT (tenant_id, consumer, event_id) DO UPDATE
    SET error = excluded.error, attempts = dead_event.attempts + 1, replay_requested_at = NULL, resolved_at = NULL
""")


async def park(session: AsyncSession, consumer: str, tenant_id: UUID, failures: Sequence[tuple[EventRow, str]]) -> None:
    """Set events of one tenant aside, each with its error; needs a session of tl_system."""
    await session.execute(
        _PARK,
        {
            "tenant": tenant_id,
            "consumer": consumer,
            "ids": new_ids(len(failures)),
            "event_ids": [event.id for event, _ in failures],
            # An error's text may quote what Postgres refused; NUL it would refuse again.
            "errors": [error[:MAX_ERROR].replace("\0", "\ufffd") for _, error in failures],
        },
    )


async def replays(session: AsyncSession, consumer: str, limit: int) -> list[Replay]:
    """Return parked events of all tenants that are to be handled again, in the bus's order."""
    statement = (
        select(DeadEvent.id, Event)
        .join(Event, (Event.tenant_id == DeadEvent.tenant_id) & (Event.id == DeadEvent.event_id))
        .where(
            DeadEvent.consumer == consumer, DeadEvent.replay_requested_at.is_not(None), DeadEvent.resolved_at.is_(None)
        )
        .order_by(Event.position)
        .limit(limit)
    )
    return [Replay(dead_id, event.tenant_id, _row(event)) for dead_id, event in await session.execute(statement)]


def _row(event: Event) -> EventRow:
    return EventRow(
        id=event.id,
        type=event.type,
        subject_type=event.subject_type,
        subject_id=event.subject_id,
        person_id=event.person_id,
        properties=event.properties,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        live=event.live,
        position=event.position,
        trace=event.trace,
    )


async def resolve(session: AsyncSession, tenant_id: UUID, dead_id: UUID) -> None:
    """Note that a replayed event was handled."""
    await session.execute(
        text("UPDATE dead_event SET resolved_at = now() WHERE tenant_id = :tenant AND id = :id"),
        {"tenant": tenant_id, "id": dead_id},
    )


def _parked(session: TenantSession) -> Select[DeadEvent, Event]:
    return (
        select(DeadEvent, Event)
        .join(Event, (Event.tenant_id == DeadEvent.tenant_id) & (Event.id == DeadEvent.event_id))
        .where(DeadEvent.tenant_id == session.tenant_id, Event.tenant_id == session.tenant_id)
    )


_IN_STATE: Final = {
    "parked": DeadEvent.resolved_at.is_(None) & DeadEvent.replay_requested_at.is_(None),
    "replaying": DeadEvent.resolved_at.is_(None) & DeadEvent.replay_requested_at.is_not(None),
    "resolved": DeadEvent.resolved_at.is_not(None),
}


async def list_parked(
    session: TenantSession, *, limit: int, before: UUID | None = None, consumer: str | None, state: State | None
) -> list[Parked]:
    """Return up to `limit` of them parked before the one with id `before`, newest first."""
    statement = _parked(session).order_by(DeadEvent.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(DeadEvent.id < before)
    if consumer is not None:
        statement = statement.where(DeadEvent.consumer == consumer)
    if state is not None:
        statement = statement.where(_IN_STATE[state])
    return [Parked(dead, event) for dead, event in await session.execute(statement)]


async def get(session: TenantSession, dead_id: UUID) -> Parked:
    """Return one.

    Raises:
        NotFoundError: the tenant has none with this id.
    """
    row = (await session.execute(_parked(session).where(DeadEvent.id == dead_id))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no dead event {dead_id}.")
    return Parked(*row)


async def request_replay(session: TenantSession, dead_id: UUID, *, by: Actor) -> Parked:
    """Have the relay hand the event to its consumer again; asking twice is asking once.

    Raises:
        NotFoundError: the tenant has none with this id.
        ConflictError: it was handled since.
    """
    parked = await get(session, dead_id)
    if parked.state == "resolved":
        raise ConflictError(f"The dead event {dead_id} was handled since.")
    if parked.state == "replaying":
        return parked
    await session.execute(
        update(DeadEvent)
        .where(DeadEvent.tenant_id == session.tenant_id, DeadEvent.id == dead_id)
        .values(replay_requested_at=datetime.now().astimezone())
    )
    await activity.record(
        session,
        by=by,
        subject_type="dead_event",
        subject_id=dead_id,
        type="dead_event.replay_requested",
        changes={"consumer": (parked.dead.consumer, parked.dead.consumer)},
    )
    await session.refresh(parked.dead)
    session.wake_after_commit()
    return parked
