"""The two people of a merge: locked, read as documents, and written."""

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, insert, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from contracts.events import PERSON_SUBSCRIBED, PERSON_UNSUBSCRIBED
from core.actor import Actor
from core.database import TenantSession
from core.ids import new_id
from models import ConsentChange, Person
from services.events.publish import NewEvent
from services.identity.attempts import LostRaceError
from services.identity.merge_fields import CONSENT, Changes, Fields, columns_of

_LOCK: Final = {
    True: text("SELECT id FROM person WHERE tenant_id = :tenant AND id = :person FOR UPDATE"),
    False: text("SELECT id FROM person WHERE tenant_id = :tenant AND id = :person FOR NO KEY UPDATE"),
}

_READ: Final = text("""
    SELECT p.id, to_jsonb(p) - 'first_name_key' - 'last_name_key' || jsonb_build_object('consent', coalesce((
      SELECT jsonb_object_agg(c.channel || ':' || c.topic,
                              jsonb_build_object('status', c.status, 'source', c.source, 'changed_at', c.changed_at))
      FROM consent c WHERE c.tenant_id = :tenant AND c.person_id = p.id), '{}')) AS document
    FROM person p WHERE p.tenant_id = :tenant AND p.id = ANY(:people)
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))

_COLUMNS: Final = tuple(
    column.name for column in Person.__table__.columns if column.name != "tenant_id" and column.computed is None
)

_WRITE_CONSENT: Final = text("""
    INSERT INTO consent (tenant_id, person_id, channel, topic, status, source, changed_at)
    SELECT :tenant AS tenant_id, :person, split_part(c.key, ':', 1), split_part(c.key, ':', 2), n.*
    FROM jsonb_each(CAST(:consent AS jsonb)) c,
         jsonb_to_record(c.value) AS n(status text, source text, changed_at timestamptz)
    ON CONFLICT (tenant_id, person_id, channel, topic) DO UPDATE
    SET status = excluded.status, source = excluded.source, changed_at = excluded.changed_at
""")
_DROP_CONSENT: Final = text("""
    DELETE FROM consent
    WHERE tenant_id = :tenant AND person_id = :person AND channel || ':' || topic = ANY(CAST(:dropped AS text[]))
""")
_DROP_PERSON: Final = (
    text("DELETE FROM consent WHERE tenant_id = :tenant AND person_id = :person"),
    text("DELETE FROM person WHERE tenant_id = :tenant AND id = :person"),
)


async def lock(session: TenantSession, people: Mapping[UUID, bool]) -> None:
    """Lock the people, in the order of their ids.

    True by the id of one who is to go: whoever refers to it anew, as an event does, waits and is refused.

    Raises:
        LostRaceError: one of them has just gone.
    """
    for person_id, going in sorted(people.items()):
        values = {"tenant": session.tenant_id, "person": person_id}
        if await session.scalar(_LOCK[going], values) is None:
            raise LostRaceError


async def read(session: TenantSession, *person_ids: UUID) -> dict[UUID, dict[str, Any]]:
    """Return the people's rows as JSON, each with its `consent` by channel and topic."""
    rows = await session.execute(_READ, {"tenant": session.tenant_id, "people": list(person_ids)})
    return {row.id: row.document for row in rows}


async def write(session: TenantSession, person_id: UUID, fields: Fields, changes: Changes) -> None:
    """Make the changed fields of the person, and its consent, what `fields` holds."""
    columns = columns_of(fields, changes)
    values = {"tenant": session.tenant_id, "person": person_id}
    if columns:
        assignments = ", ".join(f"{name} = n.{name}" for name in columns)
        await session.execute(
            text(
                f"UPDATE person p SET {assignments}, updated_at = now()"  # noqa: S608 - names of our columns
                " FROM jsonb_populate_record(NULL::person, CAST(:row AS jsonb)) n"
                " WHERE p.tenant_id = :tenant AND p.id = :person"
            ),
            {**values, "row": json.dumps(columns)},
        )
    chosen = {path: path.partition(".")[2] for path in changes if path.partition(".")[0] == CONSENT}
    consent = {key: fields[path] for path, key in chosen.items() if path in fields}
    dropped = [key for path, key in chosen.items() if path not in fields]
    if consent:
        await session.execute(_WRITE_CONSENT, {**values, "consent": json.dumps(consent)})
    if dropped:
        await session.execute(_DROP_CONSENT, {**values, "dropped": dropped})


async def revive(session: TenantSession, document: Mapping[str, Any]) -> None:
    """Write a person's row and consent as they were read."""
    names = ", ".join(_COLUMNS)
    values = ", ".join(f"n.{name}" for name in _COLUMNS)
    await session.execute(
        text(
            f"INSERT INTO person (tenant_id, {names}) SELECT :tenant AS tenant_id, {values}"  # noqa: S608 - names of our columns
            " FROM jsonb_populate_record(NULL::person, CAST(:row AS jsonb)) n"
        ),
        {"tenant": session.tenant_id, "row": json.dumps(document)},
    )
    await session.execute(
        _WRITE_CONSENT,
        {
            "tenant": session.tenant_id,
            "person": UUID(document["id"]),
            "consent": json.dumps(document.get(CONSENT, {})),
        },
    )


async def drop(session: TenantSession, person_id: UUID) -> None:
    """Delete the person and its consent; nothing else refers to it."""
    for statement in _DROP_PERSON:
        await session.execute(statement, {"tenant": session.tenant_id, "person": person_id})


def forget(session: TenantSession, *person_ids: UUID) -> None:
    """Have the session read these people anew when they are asked for."""
    for known in [item for item in session if isinstance(item, Person) and item.id in person_ids]:
        session.expunge(known)


async def record_consent(
    session: TenantSession, person_id: UUID, changes: Changes, *, merge_id: UUID, by: Actor
) -> list[NewEvent]:
    """Write to the ledger where the person stands now; return the events that say so of what became another choice."""
    rows: list[dict[str, Any]] = []
    events: list[NewEvent] = []
    for path, (before, after) in sorted(changes.items()):
        kind, _, key = path.partition(".")
        if kind != CONSENT or after is None:
            continue
        channel, _, topic = key.partition(":")
        rows.append(
            {
                "tenant_id": session.tenant_id,
                "id": new_id(),
                "person_id": person_id,
                "channel": channel,
                "topic": topic,
                "status": after["status"],
                "source": after["source"],
                "evidence": {"merge_id": str(merge_id)},
                "actor": by.name,
                "request_id": by.request_id,
            }
        )
        if before is not None and before["status"] == after["status"]:
            continue
        verb = {"opted_out": PERSON_UNSUBSCRIBED, "opted_in": PERSON_SUBSCRIBED}.get(after["status"])
        if verb is not None:
            told = {"channel": channel, "topic": topic}
            # an opt-in by a merge starts nothing; an opt-out ends what it ends
            events.append(NewEvent(verb, person_id, properties=told, live=verb == PERSON_UNSUBSCRIBED))
    if rows:
        await session.execute(insert(ConsentChange), rows)
    return events
