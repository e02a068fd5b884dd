"""What a communication belongs to: the message or communication it answers, and its person's organization."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from core.errors import InvalidError

_FIND: Final = text("""
    SELECT id, id AS thread_id, person_id, campaign_id, enrollment_id, true AS is_message
    FROM message WHERE tenant_id = :tenant AND id = :id
    UNION ALL
    SELECT id, thread_id, person_id, NULL, NULL, false
    FROM communication WHERE tenant_id = :tenant AND id = :id
""").bindparams(bindparam("id", type_=Uuid))
_IN_THREAD: Final = text(
    "SELECT 1 FROM communication WHERE tenant_id = :tenant AND thread_id = :id LIMIT 1"
).bindparams(bindparam("id", type_=Uuid))
_BY_EXTERNAL_ID: Final = text("""
    SELECT id, external_id FROM communication
    WHERE tenant_id = :tenant AND channel = :channel AND external_id = ANY(:names)
""").bindparams(bindparam("names", type_=ARRAY(Text)))
_LAST_MESSAGE: Final = text("""
    SELECT id FROM message
    WHERE tenant_id = :tenant AND person_id = :person AND channel = :channel
      AND status IN ('sent', 'delivered', 'in_doubt')
    ORDER BY id DESC LIMIT 1
""").bindparams(bindparam("person", type_=Uuid))
_PRIMARY: Final = text("""
    SELECT o.id FROM organization_current_people l
    JOIN organization o ON o.tenant_id = :tenant AND o.id = l.organization_id
    WHERE l.tenant_id = :tenant AND l.person_id = :person AND l.is_primary
    ORDER BY l.id LIMIT 1 FOR KEY SHARE OF o
""").bindparams(bindparam("person", type_=Uuid))


@dataclass(frozen=True, slots=True)
class Answered:
    """A message of ours that was answered."""

    id: UUID
    person_id: UUID | None
    campaign_id: UUID | None
    enrollment_id: UUID | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a communication belongs."""

    thread_id: UUID | None
    """None begins a thread."""
    message: Answered | None
    person_id: UUID | None = None
    """With whom what it answers was."""


async def place(session: TenantSession, *, thread_id: UUID | None, in_reply_to: UUID | None) -> Place:
    """Return the place of what answers `in_reply_to`, or belongs to the thread.

    Raises:
        InvalidError: there is no such thing or thread, or it is in another thread.
    """
    if in_reply_to is None:
        if thread_id is not None and not await _is_thread(session, thread_id):
            raise InvalidError.of("thread_id", "there is no such thread")
        return Place(thread_id, None)
    row = (await session.execute(_FIND, {"tenant": session.tenant_id, "id": in_reply_to})).one_or_none()
    if row is None:
        raise InvalidError.of("in_reply_to", "there is no such message or communication")
    if thread_id not in {None, row.thread_id}:
        raise InvalidError.of("thread_id", f"is not that of in_reply_to, {row.thread_id}")
    message = Answered(row.id, row.person_id, row.campaign_id, row.enrollment_id) if row.is_message else None
    return Place(row.thread_id, message, row.person_id)


async def _is_thread(session: TenantSession, thread_id: UUID) -> bool:
    values = {"tenant": session.tenant_id, "id": thread_id}
    if await session.scalar(_IN_THREAD, values) is not None:
        return True
    row = (await session.execute(_FIND, values)).one_or_none()
    return row is not None and row.is_message


async def named(session: TenantSession, channel: str, names: Sequence[str]) -> UUID | None:
    """Return the message or communication that the first known of these names (`Message-ID`s) means.

    A message's own `Message-ID` begins with its id; of a communication it is the `external_id`.
    """
    if not names:
        return None
    rows = await session.execute(
        _BY_EXTERNAL_ID, {"tenant": session.tenant_id, "channel": channel, "names": list(names)}
    )
    logged = {row.external_id: row.id for row in rows}
    for name in names:
        if name in logged:
            return logged[name]
        try:
            message_id = UUID(name.partition("@")[0])
        except ValueError:
            continue
        found = (await session.execute(_FIND, {"tenant": session.tenant_id, "id": message_id})).one_or_none()
        if found is not None:
            return message_id
    return None


async def last_message(session: TenantSession, person_id: UUID, channel: str) -> UUID | None:
    """Return the message that was sent last to the person on the channel."""
    values = {"tenant": session.tenant_id, "person": person_id, "channel": channel}
    found: UUID | None = await session.scalar(_LAST_MESSAGE, values)
    return found


async def primary_organization(session: TenantSession, person_id: UUID) -> UUID | None:
    """Return the organization that the person belongs to first of all now, locked against deletion."""
    found: UUID | None = await session.scalar(_PRIMARY, {"tenant": session.tenant_id, "person": person_id})
    return found
