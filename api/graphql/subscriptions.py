"""What can be subscribed to: events as they are committed, and how far imports, campaigns and journeys have come."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from api.graphql.fields import Info, one
from api.graphql.loads import people
from api.graphql.names import PERSON
from api.graphql.people import Event
from api.stream import looks
from core.database import TenantSession
from core.errors import InvalidError
from services.events.stream.listening import StreamEvent, Subject
from services.events.wanting import ALL, checked_types
from services.identity import aliases


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and the place behind it."""

    token: str
    id: UUID
    type: str
    subject_type: str
    subject_id: UUID
    person_id: UUID | None
    properties: Mapping[str, Any]
    occurred_at: datetime
    received_at: datetime
    live: bool

    @classmethod
    def of(cls, told: StreamEvent) -> "Told":
        """Return what is shown of an event."""
        event = told.event
        return cls(
            told.token,
            event.id,
            event.type,
            event.subject_type,
            event.subject_id,
            event.person_id,
            event.properties,
            event.occurred_at,
            event.received_at,
            event.live,
        )


@strawberry.type(description="An event as it was committed.")
class LiveEvent(Event):
    """An event as it was committed."""

    token: str = strawberry.field(description="Give it as `after` to go on behind this event, without loss or repeat.")
    person = one(PERSON, people.people, "person_id", "people:read")


@strawberry.type(description="How far an import, a campaign or a journey has come.")
class Progress:
    """How far an import, a campaign or a journey has come."""

    of: str = strawberry.field(description="What it is, as `import:UUID`, `campaign:UUID` or `journey:KEY`.")
    figures: JSON


@dataclass(frozen=True, slots=True)
class Standing:
    """What progress shows."""

    of: str
    figures: Mapping[str, Any]


async def _events(
    info: Info,
    types: list[str] | None = strawberry.UNSET,
    subject_type: str | None = strawberry.UNSET,
    subject_id: UUID | None = strawberry.UNSET,
    after: str | None = strawberry.UNSET,
) -> AsyncGenerator[Any]:
    context = info.context
    context.principal.require("events:read")
    wanted = checked_types(types or [ALL], field="types")
    subject: Subject | None = None
    if subject_type or subject_id:
        if not subject_type or not subject_id:
            raise InvalidError.of("subjectId", "and subjectType go together")
        subject = (subject_type, subject_id)
        if subject_type == "person":
            living = await context.read(lambda session: aliases.living(session, subject_id))
            subject = (subject_type, living)
        await context.close()
    hub = context.live.hub
    listening = hub.listen(context.principal.tenant_id, wanted, subject, after or None, on_ready=context.ready.set)
    async with aclosing(listening):
        async for told in listening:
            yield Told.of(told)


async def _progress(info: Info, of: str) -> AsyncGenerator[Any]:
    context = info.context
    thing = looks.parse(of)

    async def scope(session: TenantSession) -> str:
        return await looks.scope_of(session, thing)

    context.principal.require(await context.read(scope))
    await context.close()
    listening = context.live.progress.listen(context.principal.tenant_id, thing)
    async with aclosing(listening):
        async for figures in listening:
            yield Standing(of, {name: value for name, value in figures.items() if name not in {"of", "key"}})


@strawberry.type(description="What can be listened to, over a WebSocket or as server-sent events.")
class Subscription:
    """What can be listened to, over a WebSocket or as server-sent events."""

    events = strawberry.subscription(
        resolver=_events,
        graphql_type=LiveEvent,
        description="The tenant's events, each once, those of a subject in order; `types` as `order.*`.",
    )
    progress = strawberry.subscription(
        resolver=_progress,
        graphql_type=Progress,
        description="How it stands, and whenever that has changed, at most once a second.",
    )
