"""Reading what a page of an import needs to know, and writing what it comes to: a fixed number of statements a page.

Rows go by `COPY` into temporary tables, which row-level security does not concern, and from there into place.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from core.actor import Actor
from services.identity.import_mapping import Change
from services.identity.import_pages import COLUMNS, Outcome, State
from services.identity.resolve import Directory
from services.identity.resolve_rows import COUNT, READ, counted, of_rows

LOCK: Final = f"""
SELECT id, {", ".join(COLUMNS)}, attributes::text AS attributes, roles_by_hand
FROM person WHERE tenant_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""  # noqa: S608 - names of columns, ours
CONSENT: Final = """
SELECT person_id, channel, topic, status, source FROM consent WHERE tenant_id = $1 AND person_id = ANY($2::uuid[])
"""

_TEXTS: Final = ", ".join(f"{name} text" for name in COLUMNS)
_STAGES: Final = f"""
CREATE TEMP TABLE staged_person (id uuid, new boolean, {_TEXTS}, attributes text, roles_by_hand text[]) ON COMMIT DROP;
CREATE TEMP TABLE staged_identifier (kind text, value text COLLATE "C", person_id uuid) ON COMMIT DROP;
CREATE TEMP TABLE staged_activity (id uuid, person_id uuid, type text, changes text) ON COMMIT DROP;
CREATE TEMP TABLE staged_event (id uuid, person_id uuid, type text, properties text) ON COMMIT DROP;
"""
_STAGE_CONSENT: Final = """
CREATE TEMP TABLE staged_consent
  (id uuid, person_id uuid, channel text, topic text, status text, source text, wording text) ON COMMIT DROP
"""
_NAMES: Final = ", ".join(COLUMNS)
_CREATE: Final = f"""
INSERT INTO person (tenant_id, id, {_NAMES}, attributes, roles_by_hand)
SELECT $1 AS tenant_id, id, {_NAMES}, attributes::jsonb, roles_by_hand FROM staged_person WHERE new
"""  # noqa: S608 - as above
_UPDATE: Final = f"""
UPDATE person p
SET {", ".join(f"{name} = s.{name}" for name in COLUMNS)}, attributes = s.attributes::jsonb,
    roles_by_hand = s.roles_by_hand, updated_at = now()
FROM staged_person s WHERE p.tenant_id = $1 AND p.id = s.id AND NOT s.new
"""  # noqa: S608 - as above
_IDENTIFY: Final = """
INSERT INTO person_identifier (tenant_id, kind, value, person_id)
SELECT $1 AS tenant_id, kind, value, person_id FROM staged_identifier ORDER BY kind, value
"""
_CHOOSE: Final = """
INSERT INTO consent (tenant_id, person_id, channel, topic, status, source)
SELECT $1 AS tenant_id, person_id, channel, topic, status, source FROM staged_consent
ORDER BY person_id, channel, topic
ON CONFLICT (tenant_id, person_id, channel, topic)
DO UPDATE SET status = excluded.status, source = excluded.source, changed_at = now()
"""
_LEDGER: Final = """
INSERT INTO consent_change (tenant_id, id, person_id, channel, topic, status, source, wording, actor)
SELECT $1 AS tenant_id, s.id, s.person_id, s.channel, s.topic, s.status, s.source,
       coalesce(s.wording, CASE WHEN s.status = 'opted_in' THEN t.wording END), $2
FROM staged_consent s LEFT JOIN topic t ON t.tenant_id = $1 AND t.key = s.topic
ORDER BY s.id
"""
_LOG: Final = """
INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes)
SELECT $1 AS tenant_id, id, 'person', person_id, type, $2, changes::jsonb FROM staged_activity
"""
_PUBLISH: Final = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, live)
SELECT $1 AS tenant_id, id, type, person_id, person_id, properties::jsonb, $2 FROM staged_event ORDER BY id
"""


class VanishedError(Exception):
    """A person who was there when the page began is not any more: the page is to be done again."""


async def directory(connection: "asyncpg.Connection[Any]", tenant_id: UUID, changes: Sequence[Change]) -> Directory:
    """Return what is stored of the identifiers and people that the rows name."""
    identifiers = {identifier for change in changes for identifier in change.identifiers()}
    rows = await connection.fetch(
        READ,
        tenant_id,
        [kind for kind, _ in identifiers],
        [value for _, value in identifiers],
        list(_ids(changes)),
    )
    found = of_rows(rows)
    growing: set[UUID] = set()
    for change in changes:
        owners = [found.known.get(identifier) for identifier in change.identifiers()]
        if None in owners:
            named = (found.aliases.get(person_id, person_id) for person_id in _ids([change]))
            growing.update(owner for owner in (*owners, *named) if owner is not None)
    if growing:
        found.counts = counted(growing, await connection.fetch(COUNT, tenant_id, list(growing)))
    return found


def _ids(changes: Sequence[Change]) -> Iterable[UUID]:
    for change in changes:
        if change.person_id is not None:
            try:
                yield UUID(change.person_id)
            except ValueError:
                continue


async def states(
    connection: "asyncpg.Connection[Any]", tenant_id: UUID, people: Iterable[UUID], *, consent: bool, lock: bool = True
) -> dict[UUID, State]:
    """Return these people as they stand, locked until the transaction ends.

    Raises:
        VanishedError: one of them is gone.
    """
    wanted = sorted(people)
    if not wanted:
        return {}
    rows = await connection.fetch(LOCK if lock else LOCK.replace("FOR NO KEY UPDATE", ""), tenant_id, wanted)
    if len(rows) < len(wanted):
        raise VanishedError
    found = {
        row["id"]: State(
            row["id"],
            known=True,
            texts={name: row[name] for name in COLUMNS},
            attributes=json.loads(row["attributes"]),
            roles=frozenset(row["roles_by_hand"]),
        )
        for row in rows
    }
    if consent:
        for row in await connection.fetch(CONSENT, tenant_id, wanted):
            found[row["person_id"]].consent[row["channel"], row["topic"]] = row["status"], row["source"]
    return found


async def write(
    connection: "asyncpg.Connection[Any]",
    tenant_id: UUID,
    outcome: Outcome,
    identifiers: Sequence[tuple[str, str, UUID]],
    *,
    live: bool,
    by: Actor,
) -> None:
    """Write what the page comes to.

    Raises:
        asyncpg.PostgresError: one of `resolve_rows.LOST_RACE` where somebody else was faster.
    """
    if not (outcome.people or outcome.consent or identifiers):
        return
    await connection.execute(_STAGES)
    for table, rows in (
        ("staged_person", outcome.people),
        ("staged_identifier", identifiers),
        ("staged_activity", outcome.activities),
        ("staged_event", outcome.events),
    ):
        if rows:
            await connection.copy_records_to_table(table, records=rows)
    if outcome.people:
        await connection.execute(_CREATE, tenant_id)
        await connection.execute(_UPDATE, tenant_id)
    if identifiers:
        await connection.execute(_IDENTIFY, tenant_id)
    if outcome.consent:
        await connection.execute(_STAGE_CONSENT)
        await connection.copy_records_to_table("staged_consent", records=outcome.consent)
        await connection.execute(_CHOOSE, tenant_id)
        await connection.execute(_LEDGER, tenant_id, by.name)
    await connection.execute(_LOG, tenant_id, by.name)
    await connection.execute(_PUBLISH, tenant_id, live)
