"""Passages that a merge ended, as winner and loser were both inside: their waiting ends, and their workflows hear."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import and_, or_, select

from contracts.events import PERSON_MERGED
from core.database import TenantSession
from services.events.bus import Consumer, EventRow
from services.journeys import endings
from services.journeys.members import ENROLLMENT


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Do what ending a passage takes beyond its row, which the merge wrote; twice is as good as once."""
    people = [
        # the ones named, in case the merge was taken back since, and whom the winner became
        and_(
            ENROLLMENT.c.person_id.in_([event.person_id, *(UUID(event.properties[name]) for name in _NAMES)]),
            ENROLLMENT.c.ended_at == event.occurred_at,
        )
        for event in events
    ]
    ended = (
        select(ENROLLMENT.c.id)
        .where(ENROLLMENT.c.tenant_id == session.tenant_id, ENROLLMENT.c.reason == "merged", or_(*people))
        .order_by(ENROLLMENT.c.id)
    )
    await endings.let_go(session, (await session.scalars(ended)).all())


_NAMES: Final = ("winner_id", "loser_id")

CONSUMER: Final = Consumer("journeys_merged", handle, frozenset({PERSON_MERGED}))
