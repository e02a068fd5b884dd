"""Erasure: somebody is forgotten, in one transaction for all of the store. What counts stays, without the person.

Before it commits nothing is done, after it nothing is left to read: no one meets half of it, and `kill -9` leaves it
whole or not begun. What lies outside the store, mail files, is left to a workflow that the same transaction owes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Text, Uuid

from contracts import erasure as contract
from contracts.events import PERSON_ERASED
from core.actor import Actor
from core.address_hashes import AddressHashes
from core.database import TenantSession
from core.errors import NotFoundError, UnavailableError
from core.ids import new_id
from models import Erasure, Person, SuppressionHash
from services.events.publish import NewEvent, publish
from services.identity import aliases, person_rows, traces
from services.objects import associations
from services.shared import starts

ATTEMPTS: Final = 5
"""How often it starts again when the person was merged meanwhile, or somebody else's locks crossed its own."""

_DEADLOCK: Final = "40P01"
_CODE: Final = re.compile(r"[a-z_]{1,40}")
"""A reason that is a word of ours; any other text may name the person."""


_KNOWN_ADDRESSES: Final = """
    SELECT CASE kind WHEN 'email' THEN 'email' ELSE 'sms' END AS channel, value AS address
    FROM person_identifier WHERE tenant_id = :tenant AND person_id = :person AND kind IN ('email', 'phone')
    UNION
    SELECT 'email', email FROM person WHERE tenant_id = :tenant AND id = :person AND email IS NOT NULL
    UNION
    SELECT 'sms', phone FROM person WHERE tenant_id = :tenant AND id = :person AND phone IS NOT NULL
    UNION
    SELECT m.channel, m.address FROM message m
    WHERE m.tenant_id = :tenant AND m.person_id = :person AND m.address IS NOT NULL
      AND NOT EXISTS (
        SELECT FROM person_identifier i
        WHERE i.tenant_id = :tenant AND i.kind = CASE m.channel WHEN 'email' THEN 'email' ELSE 'phone' END
          AND i.value = m.address AND i.person_id <> :person)
"""
"""Where the person was or may be reached; an address that is somebody else's by now is theirs."""
_ADDRESSES: Final = text(_KNOWN_ADDRESSES)
_TAKE_SUPPRESSIONS: Final = text(f"""
    DELETE FROM suppression s USING ({_KNOWN_ADDRESSES}) AS known
    WHERE s.tenant_id = :tenant AND s.channel = known.channel AND s.address = known.address
    RETURNING s.channel, s.address, s.reason, s.created_at
""")  # noqa: S608 - a constant of ours
_SENT: Final = text("""
    SELECT id FROM message WHERE tenant_id = :tenant AND person_id = :person AND page_id IS NOT NULL ORDER BY id
""")
_TL_ERASE: Final = text("""
    SELECT tl_erase(:people, :others, :types, :subjects, :enrollments, :addresses, :actor, :request_id, :counts)
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("people", "others", "subjects", "enrollments")),
    *(bindparam(name, type_=ARRAY(Text)) for name in ("types", "addresses")),
    *(bindparam(name, type_=Text) for name in ("actor", "request_id")),
    bindparam("counts", type_=JSONB),
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What must be remembered of somebody until everything is erased."""

    ids: list[UUID]
    """The person's first, then those of people merged into it."""
    identifiers: Sequence[tuple[str, str]]
    """Kind and normalized value."""
    addresses: list[str]


async def erase(session: TenantSession, person_id: UUID, *, by: Actor, hashes: AddressHashes) -> Erasure:
    """Erase the person, who may be named by the id of somebody merged into it; return the record of it.

    Raises:
        NotFoundError: no such person in this tenant, or erased before.
        UnavailableError: others changed the same person again and again meanwhile.
    """
    target = person_id
    for _ in range(ATTEMPTS):
        try:
            async with session.begin_nested():
                if await _lock(session, target):
                    return await _erase(session, target, by=by, hashes=hashes)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                raise
            continue
        # Asked after the wait for its lock: the person may have been merged by whoever held it.
        target = await aliases.resolve(session, person_id)
    raise UnavailableError("Other requests keep changing the same person; try again in a moment.")


async def _lock(session: TenantSession, person_id: UUID) -> bool:
    """Keep everybody else from the person, also those who would only refer to it; whether there is one."""
    await person_rows.lock_kept_elsewhere(session, person_id)
    person = select(Person.id).where(Person.tenant_id == session.tenant_id, Person.id == person_id)
    if await session.scalar(person.with_for_update()) is None:
        return False
    # and those that came while we waited
    await person_rows.lock_kept_elsewhere(session, person_id)
    return True


async def _erase(session: TenantSession, person_id: UUID, *, by: Actor, hashes: AddressHashes) -> Erasure:
    values = {"tenant": session.tenant_id, "person": person_id}
    known = await _know(session, person_id)
    message_ids = list(await session.scalars(_SENT, values))
    counts = {"suppression": await _hash_suppressions(session, person_id, hashes)}
    others = await traces.other_sides(session, known.ids)
    counts |= await traces.erase(session, known.ids, known.identifiers)
    message_ids += await traces.erase_copies(session, known.ids, known.identifiers)
    await associations.tell_of_erasure(session, person_id)
    touched = await person_rows.erase(session, person_id)
    counts |= {table: len(ids) for table, ids in touched.items()}
    counts["person"] = 1
    rows = await session.scalar(
        _TL_ERASE,
        {
            "people": known.ids,
            "others": others,
            "types": ["person", *touched],
            "subjects": [*known.ids, *(row_id for ids in touched.values() for row_id in ids)],
            "enrollments": touched["enrollment"],
            "addresses": known.addresses,
            "actor": by.name,
            "request_id": by.request_id,
            "counts": counts,
        },
    )
    await session.execute(delete(Person).where(Person.tenant_id == session.tenant_id, Person.id == person_id))
    return await _record(session, person_id, by=by, counts=rows or {}, message_ids=message_ids)


async def _know(session: TenantSession, person_id: UUID) -> _Known:
    values = {"tenant": session.tenant_id, "person": person_id}
    addresses = (await session.execute(_ADDRESSES, values)).all()
    identifiers = await traces.identifiers(session, person_id)
    of_addresses = {("email" if channel == "email" else "phone", address) for channel, address in addresses}
    return _Known(
        ids=await aliases.ids_of(session, person_id),
        identifiers=sorted({*identifiers, *of_addresses}),
        addresses=sorted({address for _, address in addresses}),
    )


async def _hash_suppressions(session: TenantSession, person_id: UUID, hashes: AddressHashes) -> int:
    """Keep it that nothing is sent to the person's suppressed addresses, without the addresses."""
    taken = (await session.execute(_TAKE_SUPPRESSIONS, {"tenant": session.tenant_id, "person": person_id})).all()
    if taken:
        await session.execute(
            insert(SuppressionHash).on_conflict_do_nothing(),
            [
                {
                    "tenant_id": session.tenant_id,
                    "channel": row.channel,
                    "hash": hashes.of(session.tenant_id, row.channel, row.address),
                    "reason": row.reason if _CODE.fullmatch(row.reason) else "other",
                    "created_at": row.created_at,
                }
                for row in taken
            ],
        )
    return len(taken)


async def _record(
    session: TenantSession, person_id: UUID, *, by: Actor, counts: Mapping[str, Any], message_ids: Sequence[UUID]
) -> Erasure:
    record = Erasure(
        tenant_id=session.tenant_id,
        id=new_id(),
        person_id=person_id,
        requested_by=by.name,
        request_id=by.request_id,
        counts=dict(counts),
        message_ids=list(message_ids),
    )
    session.add(record)
    await session.flush()
    await publish(session, [NewEvent(PERSON_ERASED, person_id, properties={"erasure_id": str(record.id)})])
    owed = contract.ErasureInput(tenant_id=session.tenant_id, erasure_id=record.id)
    await starts.owe(session, workflow=contract.WORKFLOW, entity_id=record.id, input=owed)
    await session.refresh(record)
    return record


async def get(session: TenantSession, erasure_id: UUID) -> Erasure:
    """Return an erasure.

    Raises:
        NotFoundError: there is no such erasure.
    """
    found = await session.get(Erasure, (session.tenant_id, erasure_id))
    if found is None:
        raise NotFoundError("No such erasure.")
    return found


async def page(session: TenantSession, *, limit: int, before: UUID | None) -> list[Erasure]:
    """Return up to `limit` erasures, newest first, those older than `before`."""
    statement = select(Erasure).where(Erasure.tenant_id == session.tenant_id).order_by(Erasure.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Erasure.id < before)
    return list(await session.scalars(statement))


_HELD: Final = text("""
    SELECT count(DISTINCT p.id)
    FROM message m JOIN message_page p ON p.tenant_id = m.tenant_id AND p.id = m.page_id
    WHERE m.tenant_id = :tenant AND m.id = ANY(:messages) AND p.finished_at IS NULL AND p.lease_owner IS NOT NULL
""").bindparams(bindparam("messages", type_=ARRAY(Uuid)))


async def pages_held(session: TenantSession, record: Erasure) -> int:
    """Return how many pages with messages of the erased person a sender holds, or held when it died."""
    if not record.message_ids:
        return 0
    values = {"tenant": session.tenant_id, "messages": record.message_ids}
    return await session.scalar(_HELD, values) or 0


async def finish(session: TenantSession, erasure_id: UUID) -> None:
    """Note that nothing is left outside the store either; twice is once."""
    record = await get(session, erasure_id)
    if record.status != "finished":
        record.status = "finished"
        record.message_ids = []
        record.finished_at = await session.scalar(select(func.now()))
        await session.flush()
