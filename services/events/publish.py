"""Writing the platform's own events, in the transaction of the change they report (transactional outbox)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.events import PERSON_ERASED
from core.database import TenantSession
from core.ids import new_ids
from core.json_text import as_text

PLATFORM_KEYS: Final = "platform:"
"""Begins the idempotency key of every event written here; clients may not use it, so they cannot forestall one."""

_INSERT = text("""
    INSERT INTO event (tenant_id, id, type, subject_type, subject_id, person_id, properties, occurred_at, live,
                       idempotency_key)
    SELECT :tenant AS tenant_id, e.id, e.type, e.subject_type, e.subject_id, e.person_id, e.properties::jsonb,
           coalesce(e.occurred_at, now()), e.live AND coalesce(e.occurred_at > now() - interval '24 hours', true),
           e.idempotency_key
    FROM unnest(CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:subject_types AS text[]),
                CAST(:subject_ids AS uuid[]), CAST(:person_ids AS uuid[]), CAST(:properties AS text[]),
                CAST(:occurred_at AS timestamptz[]), CAST(:keys AS text[]), CAST(:live AS boolean[])) WITH ORDINALITY
         AS e(id, type, subject_type, subject_id, person_id, properties, occurred_at, idempotency_key, live, number)
    ORDER BY e.number
    ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
""")

# No key is in the way here: to insert first and then see costs a record of the log more for each row.
_INSERT_ALIKE = text("""
    INSERT INTO event (tenant_id, id, type, subject_type, subject_id, person_id, properties)
    SELECT :tenant AS tenant_id, e.id, :type, :subject_type, e.subject_id, e.person_id, e.properties::jsonb
    FROM unnest(:ids, :subjects, :people, :properties) WITH ORDINALITY
         AS e(id, subject_id, person_id, properties, number)
    ORDER BY e.number
""").bindparams(
    bindparam("type", type_=Text),
    bindparam("subject_type", type_=Text),
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "subjects", "people")),
    bindparam("properties", type_=ARRAY(Text)),
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to publish.

    For a subject that is a person, `person_id` is filled in, unless the event says that it was erased, as nothing may
    refer to it then. An event with an `idempotency_key` that the platform has used before in this tenant is left out
    silently. `occurred_at` is now unless given. A consequence of a backfilled fact alone is published with `live`
    false: it starts nothing either.
    """

    type: str
    subject_id: UUID
    subject_type: str = "person"
    person_id: UUID | None = None
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])
    idempotency_key: str | None = None
    occurred_at: datetime | None = None
    live: bool = True


@dataclass(frozen=True, slots=True)
class AlikeEvents:
    """Facts of one type about many subjects of one type, column by column: nothing is made for each of them in Python.

    Each happens now, and each time it is published.
    """

    type: str
    subject_type: str
    subjects: list[UUID] = field(default_factory=list[UUID])
    people: list[UUID | None] = field(default_factory=list[UUID | None])
    """Whom each concerns."""
    properties: list[str] = field(default_factory=list[str])
    """As JSON."""

    def add(self, subject_id: UUID, person_id: UUID | None, properties: str) -> None:
        """Add a fact, its properties as JSON."""
        self.subjects.append(subject_id)
        self.people.append(person_id)
        self.properties.append(properties)


async def publish_alike(session: TenantSession, events: AlikeEvents) -> None:
    """Write the events, in this order, in one statement; see `publish`."""
    if not events.subjects:
        return
    await session.execute(
        _INSERT_ALIKE,
        {
            "tenant": session.tenant_id,
            "ids": new_ids(len(events.subjects)),
            "type": events.type,
            "subject_type": events.subject_type,
            "subjects": events.subjects,
            "people": events.people,
            "properties": events.properties,
        },
    )
    session.wake_after_commit()


async def publish(session: TenantSession, events: Sequence[NewEvent]) -> None:
    """Write the events, in this order, in one statement; the relays are woken when the transaction has committed."""
    if not events:
        return
    await session.execute(
        _INSERT,
        {
            "tenant": session.tenant_id,
            "ids": new_ids(len(events)),
            "types": [event.type for event in events],
            "subject_types": [event.subject_type for event in events],
            "subject_ids": [event.subject_id for event in events],
            "person_ids": [_person_of(event) for event in events],
            "properties": [as_text(event.properties) for event in events],
            "occurred_at": [event.occurred_at for event in events],
            "keys": [
                None if event.idempotency_key is None else PLATFORM_KEYS + event.idempotency_key for event in events
            ],
            "live": [event.live for event in events],
        },
    )
    session.wake_after_commit()


def _person_of(event: NewEvent) -> UUID | None:
    if event.person_id is None and event.subject_type == "person" and event.type != PERSON_ERASED:
        return event.subject_id
    return event.person_id
