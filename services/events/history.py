"""What people did: their events, newest first."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from models import Event

START: Final = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
"""The cursor before everything."""


async def of_people(
    session: TenantSession,
    person_ids: Collection[UUID],
    limit: int,
    before: tuple[datetime, UUID] | None,
    type_: str | None,
) -> dict[UUID, list[Event]]:
    """Return by person up to `limit` events of each, of one type where it is given, older than time and id of `before`.

    Each person's are read off the index of their events; people without any are left out.
    """
    if not person_ids:
        return {}
    given = bindparam("people", sorted(set(person_ids)), type_=ARRAY(Uuid))
    asked = func.unnest(given).table_valued("id", name="asked").render_derived()
    chosen = select(Event.id, Event.occurred_at).where(
        Event.tenant_id == session.tenant_id,
        Event.person_id == asked.c.id,
        tuple_(Event.occurred_at, Event.id) < (before or START),
    )
    if type_ is not None:
        chosen = chosen.where(Event.type == type_)
    newest = chosen.order_by(Event.occurred_at.desc(), Event.id.desc()).limit(limit).correlate(asked).lateral("newest")
    rows = await session.scalars(
        select(Event)
        .select_from(asked.join(newest, true()))
        .join(Event, Event.id == newest.c.id)
        .where(Event.tenant_id == session.tenant_id)
        .order_by(Event.person_id, Event.occurred_at.desc(), Event.id.desc())
    )
    found: dict[UUID, list[Event]] = {}
    for row in rows:
        if row.person_id is not None:
            found.setdefault(row.person_id, []).append(row)
    return found
