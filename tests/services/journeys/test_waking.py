"""Until when members wait, kept in their rows as the planner has it in its state."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import update

from journeys.durations import next_time_of_day
from models import Enrollment, Tenant
from services.journeys import endings
from services.journeys.members import ENROLLMENT
from tests.factories.marketing import Marketing, walk

DAY = {"type": "wait", "for": "P1D", "next": "listen"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "PT1H", "matched": "done", "timed_out": "nine"}
NINE = {"type": "wait", "until_time": "09:00", "zone": "tenant", "next": "morning"}
MORNING = {"type": "wait", "until_time": "09:00", "next": "done"}
CLOCKS = timedelta(seconds=5)
"""Of the store and of this process, and what lies between a statement's begin and its execution."""


async def test_who_comes_to_a_wait_has_its_end_in_the_row(marketing: Marketing) -> None:
    async with marketing.session() as session:
        await session.execute(update(Tenant).where(Tenant.id == marketing.tenant_id).values(time_zone="Asia/Tokyo"))
    people = [await marketing.person(time_zone="America/New_York"), await marketing.person(time_zone="Europe/Berlin")]
    cohort = await marketing.walking(walk(day=DAY, listen=LISTEN, nine=NINE, morning=MORNING), people)

    async def wakes() -> list[tuple[Enrollment, datetime]]:
        rows = [(row, row.wake_at) for row in await cohort.rows()]
        return [(row, at) for row, at in rows if at is not None]

    assert [abs(at - row.entered_at - timedelta(days=1)) < CLOCKS for row, at in await wakes()] == [True, True]
    await cohort.run("leave_wait", "day")
    assert [abs(at - row.node_entered_at - timedelta(hours=1)) < CLOCKS for row, at in await wakes()] == [True, True]
    await cohort.run("leave_wait_for_event", "listen", timed_out=True)
    nine_in_tokyo = next_time_of_day(datetime.now(UTC), time(9), ZoneInfo("Asia/Tokyo"))
    assert [at for _, at in await wakes()] == [nine_in_tokyo] * 2
    await cohort.run("leave_wait", "nine")
    assert await wakes() == []  # in each one's own zone: a step plans it
    planned = await cohort.run("plan_wait", "morning")
    assert {slot: at for row, at in await wakes() for slot in [row.slot]} == {
        mask.bit_length() - 1: due for due, mask in planned.waits.items()
    }
    assert len(planned.waits) == 2
    await cohort.run("leave_wait", "morning")
    assert await wakes() == []


async def test_a_wait_planned_for_who_has_left_meanwhile_changes_nothing(marketing: Marketing) -> None:
    cohort = await marketing.walking(walk(morning=MORNING), await marketing.people(2))
    async with marketing.session() as session:
        await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
    await cohort.run("plan_wait", "morning")
    assert [row.wake_at is None for row in await cohort.rows()] == [True, False]
