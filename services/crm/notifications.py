"""Notifications: lines for one teammate to read, from other teammates' doings and from journeys."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from sqlalchemy import CursorResult, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.events import NOTIFICATION_CREATED
from core.database import TenantSession
from core.ids import new_ids
from models import Notification
from services.events.publish import AlikeEvents, publish_alike

MAX_TITLE: Final = 310
MAX_BODY: Final = 2_000

_ROWS: Final = """
    INSERT INTO notification (tenant_id, id, user_id, title, body, person_id, deal_id, source_key)
    SELECT :tenant AS tenant_id, n.id, n.user_id, n.title, n.body, n.person_id, n.deal_id, n.source_key
    FROM unnest(:ids, :users, :titles, :bodies, :people, :deals, :keys)
         AS n(id, user_id, title, body, person_id, deal_id, source_key)
"""
_TYPED: Final = (
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "users", "people", "deals")),
    *(bindparam(name, type_=ARRAY(Text)) for name in ("titles", "bodies", "keys")),
)
_INSERT: Final = text(_ROWS).bindparams(*_TYPED)
_INSERT_ONCE: Final = text(f"""
    {_ROWS} ON CONFLICT (tenant_id, source_key) WHERE source_key IS NOT NULL DO NOTHING RETURNING id
""").bindparams(*_TYPED)


class NewNotification(NamedTuple):
    """What somebody is to read."""

    user_id: UUID
    title: str
    body: str | None = None
    person_id: UUID | None = None
    deal_id: UUID | None = None
    source_key: str | None = None
    """What makes it, where that may be repeated: the second of a key is not made."""


async def create_many(session: TenantSession, wanted: Sequence[NewNotification]) -> list[UUID]:
    """Notify teammates, who are known to be there; return the ids of the notifications that are new.

    The event `notification.created` names the teammate and what it is about, not the text.
    """
    if not wanted:
        return []
    ids = new_ids(len(wanted))
    keys = [new.source_key for new in wanted]
    values = {
        "tenant": session.tenant_id,
        "ids": ids,
        "users": [new.user_id for new in wanted],
        "titles": [new.title for new in wanted],
        "bodies": [new.body for new in wanted],
        "people": [new.person_id for new in wanted],
        "deals": [new.deal_id for new in wanted],
        "keys": keys,
    }
    made = list(zip(ids, wanted, strict=True))
    if any(keys):
        written = set((await session.execute(_INSERT_ONCE, values)).scalars())
        made = [each for each in made if each[0] in written]
    else:
        await session.execute(_INSERT, values)
    told = AlikeEvents(NOTIFICATION_CREATED, "notification")
    for row_id, new in made:
        deal = "" if new.deal_id is None else f',"deal_id":"{new.deal_id}"'
        told.add(row_id, new.person_id, f'{{"user_id":"{new.user_id}"{deal}}}')
    await publish_alike(session, told)
    return [row_id for row_id, _ in made]


async def of_user(
    session: TenantSession, user_id: UUID, *, unread: bool, limit: int, before: UUID | None
) -> Sequence[Notification]:
    """Return up to `limit` notifications of a teammate, newest first, older than `before`."""
    statement = select(Notification).where(Notification.tenant_id == session.tenant_id, Notification.user_id == user_id)
    if unread:
        statement = statement.where(Notification.read_at.is_(None))
    if before is not None:
        statement = statement.where(Notification.id < before)
    return (await session.scalars(statement.order_by(Notification.id.desc()).limit(limit))).all()


async def unread_count(session: TenantSession, user_id: UUID) -> int:
    """Return how many a teammate has not read."""
    statement = select(func.count()).where(
        Notification.tenant_id == session.tenant_id, Notification.user_id == user_id, Notification.read_at.is_(None)
    )
    return await session.scalar(statement) or 0


async def mark_read(session: TenantSession, user_id: UUID, ids: Sequence[UUID] | None) -> int:
    """Note that a teammate has read these of theirs, or all (`None`); return how many were unread."""
    statement = update(Notification).where(
        Notification.tenant_id == session.tenant_id, Notification.user_id == user_id, Notification.read_at.is_(None)
    )
    if ids is not None:
        statement = statement.where(Notification.id.in_(ids))
    done = await session.execute(statement.values(read_at=func.now()))
    return cast("CursorResult[Any]", done).rowcount
