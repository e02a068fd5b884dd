"""Writing records, many in a few statements; two writers of one unique value make one record."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import TextualSelect, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Boolean, Integer, Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import UnavailableError
from services.objects.checking import KEEP
from services.objects.entries import Entry, entries_of
from services.objects.held import Held
from services.objects.judging import Item, Judged, unique_values
from services.objects.telling import Change, tell

TRIES: Final = 5
_DEADLOCK: Final = "40P01"

_HOLDERS: Final = text("""
    SELECT v.property, v.value, v.record_id
    FROM unnest(CAST(:properties AS text[]), CAST(:values AS text[])) AS wanted(property, value)
    JOIN record_value v ON v.tenant_id = :tenant AND v.object_id = :object AND v.property = wanted.property
     AND v.value = wanted.value AND v.is_unique
""").bindparams(
    bindparam("object", type_=Uuid),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("values", type_=ARRAY(Text)),
)
_READ: Final = """
    SELECT r.id, r.properties FROM record r
    WHERE r.tenant_id = :tenant AND r.object_id = :object AND r.id = ANY(:ids)
"""
_LOOK: Final = (
    text(_READ)
    .bindparams(bindparam("object", type_=Uuid), bindparam("ids", type_=ARRAY(Uuid)))
    .columns(id=Uuid, properties=JSONB)
)
# In the order of ids, as all who lock several do.
_LOCK: Final = (
    text(f"{_READ} ORDER BY r.id FOR UPDATE")
    .bindparams(bindparam("object", type_=Uuid), bindparam("ids", type_=ARRAY(Uuid)))
    .columns(id=Uuid, properties=JSONB)
)
_INSERT: Final = text("""
    INSERT INTO record (tenant_id, id, object_id, properties, version)
    SELECT :tenant AS tenant_id, n.id, :object, CAST(n.properties AS jsonb), :version
    FROM unnest(CAST(:ids AS uuid[]), CAST(:properties AS text[])) AS n(id, properties)
    ORDER BY n.id
""").bindparams(
    bindparam("object", type_=Uuid),
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("version", type_=Integer),
)
_UPDATE: Final = text("""
    UPDATE record r SET properties = CAST(n.properties AS jsonb), version = :version, updated_at = now()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:properties AS text[])) AS n(id, properties)
    WHERE r.tenant_id = :tenant AND r.id = n.id
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("version", type_=Integer),
)
_FORGET: Final = text("""
    DELETE FROM record_value v
    USING unnest(CAST(:properties AS text[]), CAST(:values AS text[]), CAST(:records AS uuid[]))
          AS gone(property, value, record_id)
    WHERE v.tenant_id = :tenant AND v.object_id = :object AND v.property = gone.property AND v.value = gone.value
      AND v.record_id = gone.record_id
""").bindparams(
    bindparam("object", type_=Uuid),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("values", type_=ARRAY(Text)),
    bindparam("records", type_=ARRAY(Uuid)),
)
# In the order of values, so that two writers of the same ones wait for each other and never in a circle.
_KEEP: Final = text(f"""
    {KEEP}
    ORDER BY e.property, e.value, e.record_id
    ON CONFLICT DO NOTHING
    RETURNING 1
""").bindparams(
    bindparam("object", type_=Uuid),
    bindparam("properties", type_=ARRAY(Text)),
    bindparam("values", type_=ARRAY(Text)),
    bindparam("records", type_=ARRAY(Uuid)),
    bindparam("uniques", type_=ARRAY(Boolean)),
)


class _Overtaken(Exception):  # noqa: N818 - it is no error: somebody else was faster
    """What the items were judged by has changed meanwhile."""


async def write(
    session: TenantSession,
    held: Held,
    items: Sequence[Item],
    *,
    match: str | None = None,
    skip: bool = False,
    by: Actor,
) -> Judged:
    """Judge the items in their order and write those that are good, with the log and the events.

    With `skip` records that are there already stay as they are.

    Raises:
        UnavailableError: others write the same values all the time.
    """
    for _ in range(TRIES):
        try:
            # What was locked or written is let go with the savepoint, so nobody waits in a circle.
            async with session.begin_nested():
                judged = await _judge(session, held, items, match, skip=skip)
                await _store(session, held, judged.changes(), by=by)
        except _Overtaken:
            continue
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                raise
            continue
        return judged
    raise UnavailableError("The same records are written by others all the time; try again in a moment.")


async def judge(
    session: TenantSession, held: Held, items: Sequence[Item], *, match: str | None = None, skip: bool = False
) -> Judged:
    """Judge the items in their order as `write` would now, without holding or writing anything."""
    return await _judge(session, held, items, match, skip=skip, lock=False)


async def _judge(
    session: TenantSession, held: Held, items: Sequence[Item], match: str | None, *, skip: bool, lock: bool = True
) -> Judged:
    wanted = {value for item in items for value in unique_values(held.rules, item.properties).items()}
    holders = await holders_of(session, held, sorted(wanted))
    matched = {record_id for (name, _), record_id in holders.items() if name == match}
    ids = matched | {item.id for item in items if item.id is not None}
    known = await _stored(session, held, sorted(ids), _LOCK if lock else _LOOK)
    for (name, value), record_id in holders.items():
        # Between the two statements somebody may have given it another value, or deleted it.
        if lock and record_id in ids and unique_values(held.rules, known.get(record_id, {})).get(name) != value:
            raise _Overtaken
    judged = Judged(held.rules, match, known, dict(holders), skip=skip)
    for item in items:
        judged.judge(item)
    return judged


async def holders_of(
    session: TenantSession, held: Held, wanted: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], UUID]:
    """Return which record has each of these values of unique properties, encoded."""
    if not wanted:
        return {}
    rows = await session.execute(
        _HOLDERS,
        {
            "tenant": session.tenant_id,
            "object": held.id,
            "properties": [name for name, _ in wanted],
            "values": [value for _, value in wanted],
        },
    )
    return {(row.property, row.value): row.record_id for row in rows}


async def _stored(
    session: TenantSession, held: Held, ids: Sequence[UUID], reading: TextualSelect
) -> dict[UUID, dict[str, Any]]:
    if not ids:
        return {}
    rows = await session.execute(reading, {"tenant": session.tenant_id, "object": held.id, "ids": ids})
    return {row.id: row.properties for row in rows}


async def _store(session: TenantSession, held: Held, changes: Sequence[Change], *, by: Actor) -> None:
    if not changes:
        return
    for statement, part in (
        (_INSERT, [change for change in changes if change.before is None]),
        (_UPDATE, [change for change in changes if change.before is not None]),
    ):
        if part:
            values = {
                "tenant": session.tenant_id,
                "version": held.version,
                "ids": [change.id for change in part],
                "properties": [json.dumps(change.after, ensure_ascii=False) for change in part],
            }
            await session.execute(statement, values | ({"object": held.id} if statement is _INSERT else {}))
    await _store_values(session, held, changes)
    await tell(session, changes, object_id=held.id, key=held.key, by=by)


async def _store_values(session: TenantSession, held: Held, changes: Sequence[Change]) -> None:
    gone: list[tuple[Entry, UUID]] = []
    new: list[tuple[Entry, UUID]] = []
    for change in changes:
        before = entries_of(held.rules.kept, change.before) if change.before is not None else set[Entry]()
        after = entries_of(held.rules.kept, change.after or {})
        gone += [(entry, change.id) for entry in before - after]
        new += [(entry, change.id) for entry in after - before]
    if gone:
        await session.execute(_FORGET, _arrays(session, held, gone))
    if new:
        written = await session.execute(
            _KEEP, _arrays(session, held, new) | {"uniques": [entry.unique for entry, _ in new]}
        )
        if len(written.all()) < len(new):
            raise _Overtaken


def _arrays(session: TenantSession, held: Held, rows: Sequence[tuple[Entry, UUID]]) -> dict[str, Any]:
    return {
        "tenant": session.tenant_id,
        "object": held.id,
        "properties": [entry.property for entry, _ in rows],
        "values": [entry.value for entry, _ in rows],
        "records": [record_id for _, record_id in rows],
    }
