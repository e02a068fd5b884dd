"""What was said about a deal is something done about it: it rots from then."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from contracts.events import COMMUNICATION_LOGGED
from core.database import TenantSession
from services.crm import tasks
from services.events.bus import Consumer, EventRow


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Touch the deals that communications were logged on; what happened before counts from when it was told."""
    await tasks.touch(
        session, {UUID(event.properties["deal_id"]) for event in events if event.properties.get("deal_id")}
    )


CONSUMER: Final = Consumer("crm_touched", handle, frozenset({COMMUNICATION_LOGGED}))
