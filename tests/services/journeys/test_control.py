"""Control over one passage: who did it is logged, once."""

from uuid import UUID

import pytest
from sqlalchemy import select

from core.actor import Actor
from core.errors import ConflictError
from models import Activity
from services.journeys import control, steps
from tests.factories.marketing import Marketing, walk

ADA = Actor("api_key:ada", "request-1")

WAIT = walk(pause={"type": "wait", "for": "P1D", "next": "done"})


async def logged(marketing: Marketing, enrollment_id: UUID) -> list[str]:
    """What was done to a passage, and by whom."""
    async with marketing.session() as session:
        rows = await session.scalars(
            select(Activity)
            .where(Activity.tenant_id == session.tenant_id, Activity.subject_id == enrollment_id)
            .order_by(Activity.id)
        )
        return [f"{row.type} by {row.actor}" for row in rows]


async def test_each_change_is_logged_with_its_doer_and_a_repeat_is_not(marketing: Marketing) -> None:
    walking = await marketing.walking(WAIT, await marketing.people())
    enrollment_id = (await walking.row()).id
    for verb in (control.pause, control.pause, control.resume, control.resume):
        async with marketing.session() as session:
            await verb(session, enrollment_id, by=ADA)
    for _ in range(2):
        async with marketing.session() as session:
            await control.leave(session, enrollment_id, reason="asked", by=ADA)
    assert await logged(marketing, enrollment_id) == [
        "enrollment.paused by api_key:ada",
        "enrollment.resumed by api_key:ada",
        "enrollment.exited by api_key:ada",
    ]
    row = await walking.row()
    assert (row.status, row.reason) == ("exited", "asked")


async def test_only_who_is_parked_can_be_retried(marketing: Marketing) -> None:
    walking = await marketing.walking(WAIT, await marketing.people())
    enrollment_id = (await walking.row()).id
    with pytest.raises(ConflictError, match="not parked"):
        async with marketing.session() as session:
            await control.retry(session, enrollment_id, by=ADA)
    async with marketing.session() as session:
        await steps.park(session, walking.members(), "pause", 1, "broken", attempt=1)
    async with marketing.session() as session:
        await control.retry(session, enrollment_id, by=ADA)
    assert await logged(marketing, enrollment_id) == ["enrollment.retried by api_key:ada"]
    assert (await walking.row()).problem is None
